"""The metric `code_eval` that tasks of code take from the hub: here programs run in our own sandbox, and only where that is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from math import comb
from typing import Any

from analysis.tasks.sandbox import Sandbox, Verdict


class CodeEval:
    """As `evaluate.load("code_eval")`. Each program is run once. While nothing is allowed, all programs fail without being run."""

    def __init__(self) -> None:
        self.sandbox: Sandbox | None = None
        self._run = lru_cache(None)(self._verdict)

    def allow(self) -> None:
        """Raises StrataError where programs cannot be isolated."""
        if self.sandbox is None:
            self.sandbox = Sandbox.find()
            self._run.cache_clear()

    def _verdict(self, program: str) -> Verdict:
        return Verdict(False, "not run") if self.sandbox is None else self.sandbox.run(program)

    def compute(
        self, references: Sequence[str], predictions: Sequence[Sequence[str]], k: Sequence[int] = (1, 10, 100), **options: object
    ) -> tuple[dict[str, float], Mapping[int, list[Verdict]]]:
        """The means of `pass@k` over tests `references`, each behind its candidates; and the verdict of each program."""
        found = {
            n: [self._run(f"{candidate}\n{test}") for candidate in candidates]
            for n, (test, candidates) in enumerate(zip(references, predictions, strict=False))
        }
        rates = {}
        for size in k:
            if all(len(verdicts) >= size for verdicts in found.values()):
                each = [pass_at(len(verdicts), sum(v.passed for v in verdicts), size) for verdicts in found.values()]
                rates[f"pass@{size}"] = sum(each) / len(each)
        return rates, found


def pass_at(n: int, right: int, k: int) -> float:
    """The chance that of `k` among `n` programs, of which `right` pass, one passes (Chen et al. 2021, arXiv 2107.03374)."""
    return 1 - comb(n - right, k) / comb(n, k)


CODE_EVAL = CodeEval()  # one: modules of tasks hold it as long as they are loaded


@contextmanager
def own_code_eval() -> Iterator[None]:
    """While it lasts, `evaluate.load("code_eval")`, which modules of tasks call when they are imported, gives ours."""
    import evaluate

    original = evaluate.load

    def load(path: str, *more: Any, **options: Any) -> Any:
        return CODE_EVAL if path == "code_eval" else original(path, *more, **options)

    evaluate.load = load
    try:
        yield
    finally:
        evaluate.load = original
