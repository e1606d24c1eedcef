"""How often intervals with control variates hold the truth, beside plain ones of the same documents: writes `reports/control.md`.

Documents as in `simulate.py`; a covariate goes with their sums as far as a kind of it says, and is known of more of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

from analysis.stats.control_variates import controlled
from analysis.stats.intervals import differs_from_zero, discoveries, standard_error, student
from tests.coverage.simulate import LAWS, LLAMA, RWKV, Array, Rng

OUT = Path(__file__).parents[2] / "reports" / "control.md"
SIZES = ((12, 60), (24, 120), (24, 480), (64, 320))  # documents that are swept, and with covariates
MEAN, SPREAD = 0.3, 1.0  # of the sums of single documents, per token
OUTLIER = 300  # of a covariate, in standard deviations
LEFT = 0.13  # of their variance, by a covariate that is good
REPEATS, AT_ONCE = 4000, 200
FAMILY, NULL = 48, 36  # parts that are tested together, and those of them without an effect
LARGE = 0.8  # effects of the others, in standard deviations of single documents

# Covariates of documents whose means are common + own, each (..., N) of variance LEFT and 1 - LEFT: (common, fresh noise, rng)
COVARIATES: dict[str, Callable[[Array, Array, Rng], Array]] = {
    "good": lambda common, noise, rng: 2 + 3 * common,
    "useless": lambda common, noise, rng: noise,
    "of the wrong sign": lambda common, noise, rng: 1 - common,
    "outlying": lambda common, noise, rng: common + OUTLIER * (rng.random(common.shape) < 0.01) * noise,
}
RUNS = {  # of real runs: sums of rises (parts, D) and covariates (parts, k, D), tokens (D,)
    f"{kind}, {name}": (run["rises" if kind == "blocks" else kind], run[f"{kind}_first_order"][:, None], run["tokens"])
    for name, run in (("zoo-llama-0", LLAMA), ("zoo-rwkv5-0", RWKV))
    for kind in ("blocks", "heads")
    if f"{kind}_first_order" in run
}
RUNS["blocks with their size, zoo-llama-0"] = (
    LLAMA["rises"],
    np.stack([LLAMA["blocks_first_order"], LLAMA["blocks_size"]], 1),
    LLAMA["tokens"],
)


class Held(NamedTuple):
    """Shares of intervals that hold the truth, and how wide those with covariates are beside the others (median)."""

    controlled: float
    plain: float
    width: float


def compared(sums: Array, counts: Array, covariates: Array, truth: Array) -> Held:
    """`sums` (..., n), `counts` (..., N), `covariates` (..., 1, N); the truth of each row (...)."""
    n = sums.shape[-1]
    found, value = controlled(sums, counts, covariates), sums.sum(-1) / counts[..., :n].sum(-1)
    half = student(n) * standard_error(sums, counts[..., :n])
    return Held(
        float(((found.low <= truth) & (truth <= found.high)).mean()),
        float((np.abs(value - truth) <= half).mean()),
        float(np.median((found.high - found.low) / 2 / half)),
    )


def share(law: str, covariate: str, n: int, every: int, repeats: int = REPEATS) -> Held:
    """Of a law and a kind of covariate."""
    rng = np.random.default_rng([*law.encode(), *covariate.encode(), n, every])
    parts = [_drawn(law, covariate, n, every, min(AT_ONCE, repeats), rng) for _ in range(-(-repeats // AT_ONCE))]
    return Held(*np.mean([compared(*part, np.array(MEAN)) for part in parts], axis=0).tolist())


def _drawn(law: str, covariate: str, n: int, every: int, repeats: int, rng: Rng) -> tuple[Array, Array, Array]:
    counts = rng.integers(40, 130, (repeats, every)).astype(float)
    common, own, noise = (LAWS[law](rng, counts.shape) for _ in range(3))
    sums = (MEAN + SPREAD * (np.sqrt(1 - LEFT) * common + np.sqrt(LEFT) * own)) * counts
    return sums[:, :n], counts, (COVARIATES[covariate](common, noise, rng) * counts)[:, None]


def real(run: str, n: int, every: int, repeats: int = REPEATS // 10) -> Held:
    """Documents of a run, drawn again; over all its parts."""
    sums, covariates, tokens = RUNS[run]
    rng, found = np.random.default_rng([*run.encode(), n, every]), []
    for _ in range(repeats):
        draw = rng.integers(len(tokens), size=every)
        counts = np.broadcast_to(tokens[draw], (len(sums), every))
        found.append(compared(sums[:, draw[:n]], counts, covariates[..., draw], sums.sum(1) / tokens.sum()))
    return Held(*np.mean(found, axis=0).tolist())


class Discoveries(NamedTuple):
    """Shares, means over families: of the discoveries that are false, and of the effects that are found, without covariates and with."""

    false_plain: float
    false: float
    found_plain: float
    found: float


def null(law: str, covariate: str, n: int, every: int, repeats: int = REPEATS // 10) -> Discoveries:
    """Of families of FAMILY parts that share half of what varies, NULL of them without an effect."""
    rng, rows = np.random.default_rng([*b"null", *law.encode(), *covariate.encode(), n, every]), []
    effects = np.where(np.arange(FAMILY) < NULL, 0, LARGE)[:, None]
    for _ in range(repeats):
        counts = np.broadcast_to(rng.integers(40, 130, every).astype(float), (FAMILY, every))
        shared = LAWS[law](rng, (1, every))
        common, own, noise = ((shared + LAWS[law](rng, counts.shape)) / np.sqrt(2) for _ in range(3))
        sums = ((effects + np.sqrt(1 - LEFT) * common + np.sqrt(LEFT) * own) * counts)[:, :n]
        g = (COVARIATES[covariate](common, noise, rng) * counts)[:, None]
        row: list[float] = []
        for test in (differs_from_zero(sums, counts[0, :n]), discoveries(controlled(sums, counts, g).p_value)):
            hits = test.significant
            row += [hits[:NULL].sum() / max(1, hits.sum()), hits[NULL:].mean()]
        rows.append(row)
    false_plain, found_plain, false, found = np.mean(rows, axis=0).tolist()
    return Discoveries(false_plain, false, found_plain, found)


PAGE = """# Control variates

How many of 95 % intervals hold the truth, in per cent, where sums of a few documents (n) are narrowed by a covariate that is known of more
(N): `analysis/stats/control_variates.py`. Beside them, in brackets, plain Student's t on the same n documents, and how wide the one is of
the other (median). `python -m tests.coverage control` writes this file; `make test` simulates a part of it.

Documents are drawn as in [coverage.md](coverage.md), {repeats:,} times (one standard error is {error:.1f} points). A good covariate
leaves {left:.0f} % of the variance between documents, as gradients do of heads. A useless one has nothing to do with them; of an
outlying one every hundredth document is {outlier} times as far out.

{laws}

- From normal and t3 documents 95 to 98 % hold, most of 12, for which HC3 is wide. Of lognormal ones, of which a few make up the sum,
  fewer hold, as without covariates.
- What a covariate does not know it does not correct: where the largest rises are of documents whose gradient is as that of others
  (some blocks and ffns of the zoo), and none of them is among the n, intervals are too narrow, plain ones a little less so.

## Documents of real runs

160 documents of two runs (`tests/coverage/record.py`), drawn with replacement {real:,} times; first-order effects as covariates, of
12 blocks and 8 heads each. Means over these; the worst of 20 x 4 single parts are some points lower, in both columns.

{runs}

## Parts without an effect

Families of {family} parts, {null} of them without an effect, the others with one of {large} standard deviations of single documents;
half of what varies is common to all. How many of the discoveries (Benjamini and Hochberg, 5 %) are false, and how many of the effects are
found, in per cent, without covariates and with.

{families}
"""


def main(run: Callable) -> None:
    """`run` is a map."""
    OUT.write_text(page(run))


def page(run: Callable) -> str:
    error = 100 * (0.95 * 0.05 / REPEATS) ** 0.5
    numbers = {"repeats": REPEATS, "error": error, "left": 100 * LEFT, "outlier": OUTLIER, "real": REPEATS // 10}
    families = {"family": FAMILY, "null": NULL, "large": LARGE, "families": _families(run)}
    return PAGE.format(**numbers, **families, laws=_laws(run), runs=_runs(run))


def _laws(run: Callable) -> str:
    cells = [(law, covariate, *size) for covariate in COVARIATES for size in SIZES for law in LAWS]
    held = dict(zip(cells, run(_share, cells), strict=True))
    rows = [[c, *size, *(_cell(held[law, c, *size]) for law in LAWS)] for c in COVARIATES for size in SIZES]
    return _table(["covariate", "n", "N", *LAWS], rows)


def _runs(run: Callable) -> str:
    cells = [(name, *size) for name in RUNS for size in SIZES]
    held = dict(zip(cells, run(_real, cells), strict=True))
    rows = [[name, *(_cell(held[name, *size]) for size in SIZES)] for name in RUNS]
    return _table(["run", *(f"n {n}, N {every}" for n, every in SIZES)], rows)


def _families(run: Callable) -> str:
    sizes = SIZES[:3]
    cells = [(law, covariate, *size) for covariate in COVARIATES for size in sizes for law in LAWS]
    found = dict(zip(cells, run(_null, cells), strict=True))
    rows = [[c, *size, *(cell for law in LAWS for cell in _tested(found[law, c, *size]))] for c in COVARIATES for size in sizes]
    return _table(["covariate", "n", "N", *(f"{what}, {law}" for law in LAWS for what in ("false", "found"))], rows)


def _share(of: tuple[str, str, int, int]) -> Held:
    return share(*of)


def _real(of: tuple[str, int, int]) -> Held:
    return real(*of)


def _null(of: tuple[str, str, int, int]) -> Discoveries:
    return null(*of)


def _cell(found: Held) -> str:
    return f"{100 * found.controlled:.1f} ({100 * found.plain:.1f}), {found.width:.2f}"


def _tested(found: Discoveries) -> tuple[str, str]:
    return f"{100 * found.false_plain:.1f}, {100 * found.false:.1f}", f"{100 * found.found_plain:.0f}, {100 * found.found:.0f}"


def _table(head: list[str], rows: list[list]) -> str:
    return tabulate(rows, head, tablefmt="github", disable_numparse=True)
