"""Text of SmolLM2 under every block removal, against the harness, which generates with one ablated model after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from io import StringIO
from itertools import islice
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from transformers import AutoTokenizer, LlamaForCausalLM

from adapters import Ablation, BlockModel
from adapters.errors import StrataError
from analysis.engine.ablations import single_ablations
from analysis.engine.decoding import decode, tokens
from analysis.engine.live_rows import LiveRows
from analysis.engine.plan import plan
from analysis.engine.row_budget import Prompt
from analysis.tasks import load_tasks
from analysis.tasks.written import prompt_of
from tests.benchmarks.sweeps import BATCHES
from tests.benchmarks.timing import best, load_average
from tests.reference.naive import without

TITLE = "Generation"
NEW = 64  # tokens of a text
ROWS = 124  # of a step that is timed


class Case(NamedTuple):
    name: str
    task: str
    shots: int | None
    prompts: int


CASES = (
    Case("gsm8k_cot, its eight examples", "gsm8k_cot", None, 16),
    Case("gsm8k without examples", "gsm8k", 0, 16),
    Case("gsm8k without examples", "gsm8k", 0, 48),
)


def section(model: BlockModel, foreign: LlamaForCausalLM, ids: Tensor, limit: int | None = None) -> str:
    """Markdown. `limit` takes fewer prompts and tokens, to see whether it runs."""
    if model.tokenizer is None:
        return f"\n## {TITLE}\n\nNot measured: random weights write no text.\n"
    try:
        table = pd.DataFrame(
            [_row(case if limit is None else case._replace(prompts=limit), model, foreign, limit or NEW) for case in CASES]
        )
    except StrataError as error:
        return f"\n## {TITLE}\n\nNot measured: {error}\n"
    n = len(model.blocks)
    return f"""
## {TITLE}

{NEW} new tokens behind each prompt, by SmolLM2 and by SmolLM2 without each of its {n} blocks. The harness's model (Hugging Face's, from
which the block is deleted) generates with one model after the other, in batches of the best of {", ".join(map(str, BATCHES))}; its figure
is the dense model's time and {n} times that of the model without its middle block. No text ends early on either side. Reading the prompts
(one new token) and decoding (the rest) are also given apart. One round.

{table.to_markdown(index=False)}

{_step(model, ids, limit)}
"""


def _row(case: Case, model: BlockModel, foreign: LlamaForCausalLM, new: int) -> dict[str, str]:
    from tests.shared_data import FOLDER  # needs pytest, which a machine for timing may lack

    data = FOLDER / "bench" if (FOLDER / "bench").is_dir() else None
    tasks = load_tasks(case.task, shots=case.shots, limit=case.prompts, data=data)
    contexts = [item.instances[0].args[0] for item in tasks.items]
    models = {"dense": foreign, "ablated": without(foreign, Ablation(blocks=frozenset([len(model.blocks) // 2])))}
    work = plan(model.spec, single_ablations(model.spec, ["blocks"]))

    def ours(most: int) -> Callable[[], object]:
        prompts = [prompt_of(model, context, {"max_gen_toks": most}) for context in contexts]
        return lambda: list(_endless(model, work, prompts))

    harness = {(name, batch): _harness(one, batch) for name, one in models.items() for batch in BATCHES}
    tried = best({str(batch): lambda b=batch: harness["dense", b](contexts, new) for batch in BATCHES}, rounds=1)
    batch = min(BATCHES, key=lambda b: tried[str(b)])
    contenders: dict[str, Callable[[], object]] = {
        f"{name} {most}": lambda n=name, m=most: harness[n, batch](contexts, m) for name in models for most in (1, new)
    }
    times = best(contenders | {f"ours {most}": ours(most) for most in (1, new)}, rounds=1)
    theirs = {most: times[f"dense {most}"] + len(model.blocks) * times[f"ablated {most}"] for most in (1, new)}
    decoding = (theirs[new] - theirs[1]) / max(1e-9, times[f"ours {new}"] - times["ours 1"])
    return {
        "prompts": f"{case.prompts}, {case.name}",
        "ours, s": f"{times[f'ours {new}']:.1f}",
        f"harness, {len(model.blocks) + 1} models, s": f"{theirs[new]:.1f}",
        "times faster": f"{theirs[new] / times[f'ours {new}']:.1f}",
        "prompts alone": f"{theirs[1] / times['ours 1']:.1f}",
        "decoding alone": f"{decoding:.1f}",
        "raw seconds of the harness": f"dense {times[f'dense {new}']:.1f}, ablated {times[f'ablated {new}']:.1f}, batch {batch}",
        "load": load_average(),
    }


def _endless(model: BlockModel, work: Any, prompts: Sequence[Prompt]) -> Any:
    """All texts have all tokens: nothing ends them."""
    ends, tokenizer = model.end_tokens, model.tokenizer
    assert tokenizer is not None
    eos = tokenizer.eos_id
    model.end_tokens, tokenizer.eos_id = (), None
    try:
        yield from decode(model, work, prompts)
    finally:
        model.end_tokens, tokenizer.eos_id = ends, eos


def _harness(model: LlamaForCausalLM, batch: int) -> Callable[[Sequence[str], int], object]:
    """`generate` as HFLM calls it, on batches of equal work: padded on the left, with its cache."""
    tokenizer = AutoTokenizer.from_pretrained(model.name_or_path, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    def run(contexts: Sequence[str], most: int) -> object:
        ordered = sorted(contexts, key=len, reverse=True)
        with redirect_stderr(StringIO()), torch.inference_mode():
            for first in range(0, len(ordered), batch):
                given = tokenizer(ordered[first : first + batch], padding="longest", return_tensors="pt").to(model.device)
                model.generate(**given, max_new_tokens=most, min_new_tokens=most, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        return None

    return run


def _step(model: BlockModel, ids: Tensor, limit: int | None) -> str:
    """A step of many rows against its matrix products alone, and against pasts that are joined anew each step."""
    n_prompts, most = (limit, 8) if limit else (ROWS // (len(model.blocks) + 1), 24)
    work = plan(model.spec, single_ablations(model.spec, ["blocks"]))
    prompts = [Prompt(tuple(row), most) for row in ids[:n_prompts, :64].tolist()]
    n = n_prompts * len(work.ablations)
    seconds: list[float] = []
    original = LiveRows.step

    def timed(rows: LiveRows) -> Tensor:
        out: list[Tensor] = []
        seconds.append(best({"step": lambda: out.append(original(rows))}, rounds=1)["step"])
        return out[0]

    LiveRows.step = timed  # type: ignore[method-assign]
    try:
        list(_endless(model, work, prompts))
    finally:
        LiveRows.step = original  # type: ignore[method-assign]
    matrices = [[w for w in block.weights.values() if w.dim() == 2] for block in model.blocks]
    inputs = {size: torch.randn(n, size, device=model.device) for size in {w.shape[1] for each in matrices for w in each}}
    products = best({"products": lambda: [inputs[w.shape[1]] @ w.T for each in matrices for w in each]})["products"]
    many = ids[torch.arange(n) % len(ids), :64]
    plain, kept = (_decoding(model, many, preallocated) for preallocated in (False, True))
    return (
        f"A step of {n} rows takes {1e3 * min(seconds) / n:.2f} ms a row, {min(seconds) / products:.2f} times the matrix products of the "
        f"blocks alone. One model that decodes {n} rows with pasts that are joined anew each step takes {plain / kept:.2f} times what "
        "preallocated ones take."
    )


def _decoding(model: BlockModel, ids: Tensor, preallocated: bool) -> float:
    """Seconds of the best of steps behind prompts that have been read."""
    if not preallocated:
        written = tokens(model, ids)
        next(written)
        return best({"step": lambda: list(islice(written, 1))}, rounds=8)["step"]
    times: list[float] = []
    original = LiveRows.step

    def timed(rows: LiveRows) -> Tensor:
        out: list[Tensor] = []
        times.append(best({"step": lambda: out.append(original(rows))}, rounds=1)["step"])
        return out[0]

    LiveRows.step = timed  # type: ignore[method-assign]
    try:
        list(_endless(model, plan(model.spec, []), [Prompt(tuple(row), 9) for row in ids.tolist()]))
    finally:
        LiveRows.step = original  # type: ignore[method-assign]
    return min(times)
