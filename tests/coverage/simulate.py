"""How often the project's intervals hold the truth, on documents whose truth is known.

Documents are drawn from a law (normal, Student's t with 3 degrees of freedom, lognormal), or with replacement from those of a
real run (`record.py`), which are then the whole of what there is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.comparison.redundancy import LIMIT, SUMMARIES, estimate
from analysis.methods.accuracy import mean, retained
from analysis.stats.intervals import MANY, Interval, accuracy, ratios
from analysis.stats.rank_agreement import Scores, agreement, gap, tau_b
from analysis.stats.seeds import difference, over_seeds

Array = np.ndarray
Rng = np.random.Generator

SIZES = (12, 24, 64)  # documents
REAL = "real documents"
RUNS = json.loads(Path(__file__).with_name("sums.json").read_text())
LLAMA, RWKV = ({key: np.array(values) for key, values in RUNS[name].items()} for name in ("zoo-llama-0", "zoo-rwkv5-0"))

LAWS: dict[str, Callable[[Rng, tuple[int, ...]], Array]] = {  # mean 0, variance 1
    "normal": lambda rng, shape: rng.normal(size=shape),
    "t3": lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3),
    "lognormal": lambda rng, shape: (rng.lognormal(size=shape) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e),
}
BLOCKS = np.array([1.2, 0.08, 0.05, 0.04, 0.03, 0.05, 0.06, 0.04, 0.03, 0.05, 0.06, 0.15])  # shares of the margin
PATH = np.cumsum([0.01, 0.02, 0.03, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3])
APART = 1.0 * np.arange(12)  # neighbours are as far apart as single documents are from each other
SWAPPED = APART[[1, 0, 3, 2, 5, 4, 6, 7, 9, 8, 11, 10]]
OTHER = APART[[5, 3, 0, 1, 2, 4, 9, 6, 11, 7, 8, 10]]


class Drawn(NamedTuple):
    """Sums of items over documents, drawn again and again, and the truth they are of."""

    sums: Array  # (repeats, items, D)
    counts: Array  # (repeats, D)
    means: Array  # (items,)

    @property
    def scores(self) -> list[Scores]:
        return [Scores(*drawn) for drawn in zip(self.sums, self.counts, strict=True)]


def invented(law: str, means: Array, spread: Array | float, n: int, repeats: int, rng: Rng) -> Drawn:
    """Documents of 40 to 130 tokens; half of what varies is common to all items. `spread`: of the means of single documents."""
    counts = rng.integers(40, 130, (repeats, n)).astype(float)
    common, own = LAWS[law](rng, (repeats, 1, n)), LAWS[law](rng, (repeats, len(means), n))
    spread = np.broadcast_to(spread, means.shape)[:, None]
    return Drawn((means[:, None] + spread * np.sqrt(0.5) * (common + own)) * counts[:, None], counts, means)


def drawn_from(sums: Array, counts: Array, n: int, repeats: int, rng: Rng) -> Drawn:
    """Of (items, D) and (D,) of a run."""
    sums, draw = np.atleast_2d(sums), rng.integers(len(counts), size=(repeats, n))
    return Drawn(np.moveaxis(sums[:, draw], 0, 1), counts[draw], sums.sum(1) / counts.sum())


def held(intervals: Iterable[Interval], truth: float) -> float:
    """The share of intervals that hold the truth; one that is missing does not."""
    slack = 1e-9  # steps are met exactly
    return float(np.mean([i.low is not None and i.high is not None and i.low - slack <= truth <= i.high + slack for i in intervals]))


def of_ratios(d: Drawn) -> float:
    """Mean over items."""
    parts = np.array_split(np.arange(len(d.sums)), -(-len(d.sums) // 100))  # bounds the memory
    ends = [ratios(d.sums[part], np.broadcast_to(d.counts[part, None], d.sums[part].shape))[1:] for part in parts]
    return float(np.mean(np.concatenate([(low <= d.means) & (d.means <= high) for low, high in ends])))


Share = Callable[[str, int, int, Rng], float | None]  # of a law (or REAL), documents, repeats; None: there is nothing real


def _ratio(means: Sequence[float], spread: float, real: tuple[Array, Array]) -> Share:
    def share(law: str, n: int, repeats: int, rng: Rng) -> float:
        if law == REAL:
            return of_ratios(drawn_from(*real, n, repeats, rng))
        return of_ratios(invented(law, np.array(means), spread, n, repeats, rng))

    return share


def _whole(path: Array) -> Array:
    """The share of parts that can go, in whole parts, as a report on one model says it."""
    return np.logical_and.accumulate(path <= LIMIT, axis=-1).mean(-1)


def _summary(name: str, whole: bool = False) -> Share:
    summary = SUMMARIES[name]
    of = _whole if whole else summary.of

    def share(law: str, n: int, repeats: int, rng: Rng) -> float:
        if law == REAL:
            d = drawn_from(LLAMA["path" if summary.source == "path" else "rises"], LLAMA["unigram"] - LLAMA["dense"], n, repeats, rng)
        else:
            means = PATH if summary.source == "path" else BLOCKS
            d = invented(law, means, 0.6 * means, n, repeats, rng)
        truth = float(of(d.means))
        return held((estimate(of, s, steps=whole).interval for s in d.scores), truth)

    return share


def _areas(law: str, n: int, repeats: int, rng: Rng) -> float:
    """Two models on the same documents."""
    of = SUMMARIES["area"].of
    if law == REAL:
        draw = rng.integers(len(LLAMA["dense"]), size=(repeats, n))
        both = [Drawn(np.moveaxis(m["path"][:, draw], 0, 1), margin[draw], m["path"].sum(1) / margin.sum())
                for m in (LLAMA, RWKV) for margin in [m["unigram"] - m["dense"]]]  # fmt: skip
    else:
        means = np.concatenate([PATH, 0.8 * PATH])
        d = invented(law, means, 0.6 * means, n, repeats, rng)
        both = [Drawn(d.sums[:, part], d.counts, d.means[part]) for part in (slice(12), slice(12, None))]
    truth = float(of(both[0].means) - of(both[1].means))
    return held(((estimate(of, a) - estimate(of, b)).interval for a, b in zip(*(m.scores for m in both), strict=True)), truth)


def _tau(a: Array, b: Array, real: bool) -> Share:
    def share(law: str, n: int, repeats: int, rng: Rng) -> float | None:
        if law == REAL and not real:
            return None
        if law == REAL:
            x = drawn_from(LLAMA["bi"], LLAMA["bi_tokens"], n, repeats, rng)
            y = drawn_from(LLAMA["rises"], LLAMA["tokens"], n, repeats, rng)
        else:
            x, y = (invented(law, means, 1.0, n, repeats, rng) for means in (a, b))
        truth = float(tau_b(x.means, y.means))
        return held((agreement(s, t, paired=False) for s, t in zip(x.scores, y.scores, strict=True)), truth)

    return share


def _gap(law: str, n: int, repeats: int, rng: Rng) -> float | None:
    if law == REAL:
        return None
    metrics = invented(law, np.concatenate([SWAPPED, OTHER]), 1.0, n, repeats, rng)
    effect = invented(law, APART, 1.0, n, repeats, rng)
    pairs = [(Scores(s.sums[:12], s.tokens), Scores(s.sums[12:], s.tokens)) for s in metrics.scores]
    truth = float(tau_b(SWAPPED, APART) - tau_b(OTHER, APART))
    return held((gap(a, b, e, paired=False) for (a, b), e in zip(pairs, effect.scores, strict=True)), truth)


INTERVALS: dict[str, Share] = {
    "loss, perplexity, bits per byte": _ratio([3.0], 0.6, (LLAMA["dense"], LLAMA["bytes"])),
    "rise without a block": _ratio([0.3, 0.0], 1.0, (LLAMA["rises"], LLAMA["tokens"])),
    "rise without a head": _ratio([0.01], 0.1, (LLAMA["heads"], LLAMA["tokens"])),
    "Block Influence": _ratio([0.2], 0.05, (LLAMA["bi"], LLAMA["bi_tokens"])),
    "share of the gain over unigram": _ratio(PATH.tolist(), 0.2, (LLAMA["path"], LLAMA["unigram"] - LLAMA["dense"])),
    "difference of two removals": _ratio([0.02], 0.2, (np.diff(LLAMA["path"], axis=0), LLAMA["tokens"])),
    "effective number of blocks": _summary("effective"),
    "Gini coefficient": _summary("gini"),
    "area under the removal curve": _summary("area"),
    "difference of two areas": _areas,
    "share of blocks that can go": _summary("removable"),
    "whole blocks that can go": _summary("removable", whole=True),
    "tau of two orders": _tau(APART, SWAPPED, real=True),
    "tau of blocks that are alike": _tau(np.zeros(12), np.zeros(12), real=False),
    "difference of two taus": _gap,
}
STEPS = ("whole blocks that can go", "tau of two orders", "tau of blocks that are alike", "difference of two taus")  # few values each
SLOW = tuple(INTERVALS)[6:]  # a bootstrap for each repeat


def _right(rng: Rng, p: float, n: int) -> Array:
    return (rng.random(n) < p).astype(float)


def _paired(rng: Rng, n: int) -> tuple[Array, Array]:
    """A model of which 60 % is right, and one that answers one question in five anew."""
    dense = _right(rng, 0.6, n)
    return np.where(rng.random(n) < 0.8, dense, _right(rng, 0.6, n)), dense


ANSWERS: dict[str, Callable[[int, int, Rng], float]] = {  # of questions, repeats
    "accuracy of 60 %": lambda n, repeats, rng: held((accuracy(_right(rng, 0.6, n)) for _ in range(repeats)), 0.6),
    "accuracy of 95 %": lambda n, repeats, rng: held((accuracy(_right(rng, 0.95, n)) for _ in range(repeats)), 0.95),
    "difference of two accuracies": lambda n, repeats, rng: held((accuracy(*_paired(rng, n)) for _ in range(repeats)), 0.0),
    "mean accuracy of two tasks": lambda n, repeats, rng: held(
        (mean([_right(rng, 0.6, n), _right(rng, 0.3, n)]) for _ in range(repeats)), 0.45
    ),
    "share of an accuracy retained": lambda n, repeats, rng: held(
        (retained(*zip(_paired(rng, n), _paired(rng, n), strict=True)) for _ in range(repeats)), 1.0
    ),
}


def _seeds(law: str, shape: tuple[int, int], rng: Rng, level: float = 10.0, spread: float = 1.0) -> Array:
    """Values of single seeds (repeats, seeds), as if each was measured on the same documents."""
    return level + spread * LAWS[law](rng, shape)


def _apart(spread: float, more: int = 0) -> Callable[[str, int, int, Rng], float]:
    """Two architectures; the seeds of the second vary `spread` times as much, and it has `more` of them."""

    def share(law: str, n: int, repeats: int, rng: Rng) -> float:
        a, b = _seeds(law, (repeats, n), rng), _seeds(law, (repeats, n + more), rng, 7.0, spread)
        return held((difference(x, y).interval for x, y in zip(a, b, strict=True)), 3.0)

    return share


SEED_INTERVALS: dict[str, Callable[[str, int, int, Rng], float]] = {  # of a law, seeds, repeats
    "mean of one architecture": lambda law, n, repeats, rng: held(map(over_seeds, _seeds(law, (repeats, n), rng)), 10.0),
    "difference, seeds vary alike": _apart(1.0),
    "difference, one side varies three times as much": _apart(3.0),
    "difference, one side has a seed more": _apart(1.0, more=1),
}
SEED_SIZES = (3, 4)


REPEATS, SOME, FEW = 4000, 2000, 400  # of intervals in closed form, of BCa, and of the others, which take a bootstrap each


def repeats(interval: str, n: int) -> int:
    """How many make the page."""
    return FEW if interval in (*SLOW, *ANSWERS) else SOME if n >= MANY else REPEATS


def seed_share(interval: str, law: str, n: int, repeats: int) -> float:
    """How many of `repeats` intervals over `n` seeds hold the truth."""
    return SEED_INTERVALS[interval](law, n, repeats, np.random.default_rng([*interval.encode(), *law.encode(), n]))


def share(interval: str, law: str, n: int, repeats: int) -> float | None:
    """How many of `repeats` intervals over `n` documents (or questions; these have no law) hold the truth."""
    rng = np.random.default_rng([*interval.encode(), *law.encode(), n])
    return ANSWERS[interval](n, repeats, rng) if interval in ANSWERS else INTERVALS[interval](law, n, repeats, rng)
