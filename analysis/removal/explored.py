"""Everything that was measured when parts of one model were taken out, as plain numbers for a reader who picks parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from adapters.ablation import Ablation
from adapters.base import BlockModel
from analysis.display.result import Text, read
from analysis.engine.ablations import single_ablations
from analysis.removal.paths import Scored
from analysis.removal.savings import MEASURES, saved
from analysis.stats.intervals import Interval

SAVED = "block parameters"  # what is saved is a share of them


@dataclass(frozen=True)
class Measured:
    """What a set of parts costs."""

    out: str  # the parts, as an Ablation is printed: "blocks 3, 5; heads 2.1"
    saved: float  # of the block parameters
    rise: Interval  # in loss, nats per token
    significant: bool | None = None  # None: no test was made


@dataclass(frozen=True)
class Order:
    """Sets that follow each other along a removal order."""

    title: str
    outs: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """What was measured on one text."""

    text: str  # "texts, held-out: 16 documents, one window of 128 tokens each"
    n_documents: int
    sets: tuple[Measured, ...]
    orders: tuple[Order, ...] = ()


@dataclass(frozen=True)
class Explored:
    """One model: what each part saves alone, and what was measured without which parts."""

    model: str
    parts: dict[str, float]  # "heads 2.1" -> share of the block parameters
    readings: tuple[Reading, ...]


class Singles(NamedTuple):
    """The tidy table of single removals, its text, and how it was estimated, where not from this text alone (a sentence)."""

    table: pd.DataFrame
    text: Text
    note: str = ""


class Paths(NamedTuple):
    """Scored sets, the titles of the orders among their paths, and their text."""

    scored: Scored
    titles: Mapping[str, str]
    text: Text


def explored(model: BlockModel, singles: Iterable[Singles] = (), paths: Iterable[Paths] = ()) -> Explored:
    """What single removals and removal paths of a model found."""
    parts = {str(part): _share(model, part) for part in _parts(model)}
    readings = [*(_of_singles(one, parts) for one in singles), *map(_of_paths, paths)]
    return Explored(model.spec.name, parts, _by_text(readings))


def merged(found: Sequence[Explored]) -> list[Explored]:
    """One for each model, with what all found."""
    models: dict[str, list[Explored]] = {}
    for one in found:
        models.setdefault(one.model, []).append(one)
    return [Explored(name, of[0].parts, _by_text(reading for one in of for reading in one.readings)) for name, of in models.items()]


def _by_text(readings: Iterable[Reading]) -> tuple[Reading, ...]:
    """One for each text, each set once, as it was tested, where it was, and each order once, with the most sets."""
    texts: dict[str, list[Reading]] = {}
    for reading in readings:
        texts.setdefault(reading.text, []).append(reading)
    joined = []
    for text, of in texts.items():
        sets: dict[str, Measured] = {}
        for one in (one for reading in of for one in reading.sets):
            if one.out not in sets or sets[one.out].significant is None:
                sets[one.out] = one
        orders: dict[str, Order] = {}
        for order in (order for reading in of for order in reading.orders):
            if order.title not in orders or len(orders[order.title].outs) < len(order.outs):
                orders[order.title] = order
        joined.append(Reading(text, of[0].n_documents, tuple(sets.values()), tuple(orders.values())))
    return tuple(joined)


def _parts(model: BlockModel) -> list[Ablation]:
    """Blocks, mixers, ffns, heads and experts, as far as the model has them; what is the same as a block is the block."""
    has = {
        "blocks": True,
        "mixers": any(block.has_mixer for block in model.spec.blocks),
        "ffns": any(block.has_ffn for block in model.spec.blocks),
        "heads": model.spec.has_heads,
        "experts": model.spec.has_experts,
    }
    return list(dict.fromkeys(single_ablations(model.spec, [kind for kind, there in has.items() if there])))


def _share(model: BlockModel, ablation: Ablation) -> float:
    return MEASURES[SAVED](model.spec, saved(model, ablation))


def _of_singles(singles: Singles, parts: Mapping[str, float]) -> Reading:
    rows = singles.table[singles.table["ablation"].isin(parts)]
    flags = rows[rows["metric"] == "significant"].set_index("ablation")["value"] == 1
    rises = rows[rows["metric"] == "delta_nll"].drop_duplicates("ablation")
    sets = [
        Measured(str(out), parts[out], _interval(*ends), bool(flags[out]) if out in flags else None)
        for out, *ends in rises[["ablation", "value", "ci_low", "ci_high"]].itertuples(index=False)
    ]
    n = int(rises["n_documents"].min())
    said = read(singles.text, "held-out", n)
    return Reading(f"{said}. {singles.note.rstrip('.')}" if singles.note else said, n, tuple(sets))


def _of_paths(paths: Paths) -> Reading:
    scored, n = paths.scored, len(paths.scored.tokens)
    sets = [Measured(str(a), scored.share(SAVED, a), scored.rise(a)) for a in scored.nll if a]
    orders = [Order(title, tuple(str(a) for a in scored.paths[name] if a)) for name, title in paths.titles.items()]
    return Reading(read(paths.text, "held-out", n), n, tuple(sets), tuple(orders))


def _interval(value: float, low: float, high: float) -> Interval:
    return Interval(float(value), *(None if pd.isna(end) else float(end) for end in (low, high)))
