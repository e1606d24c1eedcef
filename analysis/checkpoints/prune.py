"""What is pruned, in which order it was found, and what that costs."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch

from adapters.ablation import NONE, Ablation
from adapters.base import BlockModel
from adapters.checkpoints.export import Source, remaining, remove_blocks, rerooted
from adapters.checkpoints.lineage import ancestors_of
from adapters.errors import StrataError
from adapters.plugins import Named, noted
from analysis.checkpoints.cuts import Cut, cut, require_cut
from analysis.data.batches import Text, batches
from analysis.data.documents import windows_hash
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from analysis.removal.orders import BLOCKS, EXPERTS, Calibration, Listing, Order, Search, order_of
from analysis.removal.paths import RemovalPath, nested, thinned
from analysis.removal.savings import saved
from analysis.runs.folder import VERSIONS
from analysis.runs.settings import ProgressCallback, no_progress
from analysis.stats.intervals import Interval, ratio

TOLERANCE = 0.015  # of the block parameters: how far from the share that was asked for a set may be
POINTS = 12  # sets of a path of other parts than blocks whose loss is measured


@dataclass(frozen=True)
class Loss:
    """What a removal path costs on held-out text; nats per token."""

    path: RemovalPath  # up to the removed set
    nll: np.ndarray  # (sets, documents); the last is of the model as it is written
    tokens: np.ndarray

    @property
    def rises(self) -> list[Interval]:
        """Of each set over the dense model, paired over documents."""
        return [ratio(row - self.nll[0], self.tokens) for row in self.nll]

    @property
    def dense(self) -> Interval:
        return ratio(self.nll[0], self.tokens)

    @property
    def pruned(self) -> Interval:
        return ratio(self.nll[-1], self.tokens)


def find_path(model: BlockModel, text: Text, order: Order, most: int, tell: ProgressCallback = no_progress) -> RemovalPath:
    """The first `most` removals of an order, found on the calibration text."""
    return order.find(Calibration(model, list(batches(text.windows(model), model)), tell), most)


def count_of(remove: int | None, ratio: float | None, n_parts: int, noun: str = "blocks") -> int:
    """How many parts go: `remove`, or a share of them, to two digits. Raises StrataError when it is none, or no number of parts."""
    if ratio is None:
        if remove is None or not 0 < remove < n_parts:
            raise StrataError(
                f"{remove or 0} of {n_parts} {noun} are to be removed: give a number from 1 to {n_parts - 1}, for at least one must stay"
            )
        return remove
    if not 0 < ratio < 1:  # nor is nan
        raise StrataError(f"a ratio of {ratio:g} is not a share of the {noun}: give one between 0 and 1, for example 0.25")
    count = round(ratio * n_parts)
    if 0 < count < n_parts and abs(count / n_parts - ratio) < 0.005:
        return count
    near = sorted({min(max(int(ratio * n_parts) + i, 1), n_parts - 1) for i in (0, 1)})
    said = " or ".join(f"`n` {k} (ratio {k / n_parts:.3f})" for k in near)
    raise StrataError(f"a ratio of {ratio:g} is {ratio * n_parts:.4g} of {n_parts} {noun}, which is not a whole number: give {said}")


class Amount(NamedTuple):
    """How much goes: a number of parts (of experts in each block), a share of them or, with `params`, of the parameters of all blocks."""

    n: int | None = None
    ratio: float | None = None
    params: bool = False

    def check(self) -> None:
        """Raises StrataError when that is not said once."""
        if (self.n is None) == (self.ratio is None):
            raise StrataError("how much goes is not clear: give either n, the number of blocks, or ratio, for example 0.25")
        if self.params and self.ratio is None:
            raise StrataError("`params` says what a `ratio` is a share of: give one, for example 0.25, in the place of `n`")

    def most(self, model: BlockModel, order: Order) -> int:
        """How many removals a path has that reaches it. Raises StrataError as `count_of`."""
        parts = order.steps(model.spec)
        noun = "experts of each block" if order.kinds == EXPERTS else " and ".join(order.kinds)
        if not self.params or self.ratio is None:
            return count_of(self.n, self.ratio, len(parts), noun)
        if not 0 < self.ratio < 1:
            raise StrataError(f"a ratio of {self.ratio:g} is not a share of the parameters: give one between 0 and 1, for example 0.25")
        smallest = np.cumsum(sorted(share_of_params(model, part) for part in parts))
        return min(int(np.searchsorted(smallest, self.ratio)) + 1, len(parts) - 1)

    def end(self, model: BlockModel, path: RemovalPath) -> RemovalPath:
        """The path up to the set that comes nearest. Raises StrataError when none is within TOLERANCE of a share of parameters."""
        if not self.params or self.ratio is None:
            return path
        shares = [share_of_params(model, out) for out in path]
        best = int(np.argmin(np.abs(np.array(shares) - self.ratio)))
        if best == 0 or abs(shares[best] - self.ratio) > TOLERANCE:
            around = sorted({max(best - 1, 1), max(best, 1), min(best + 1, len(path) - 1)})
            said = " and ".join(f"{shares[k]:.3f} (`n` {k})" for k in around)
            raise StrataError(
                f"no set of this order takes out {self.ratio:g} of the block parameters, to within {TOLERANCE:g}: the nearest are {said}"
            )
        return path[: best + 1]


def share_of_params(model: BlockModel, out: Ablation) -> float:
    """What is out of the parameters of all blocks."""
    return saved(model, out).params / model.spec.block_params


def measure_loss(model: BlockModel, path: RemovalPath, text: Text, final: BlockModel | None = None) -> Loss:
    """The loss along the path; at its end that of `final`, which is the pruned model where none is given.

    RWKV-7 without block 0 is another model when it is rerooted.
    """
    final, steps = final or remove_blocks(model, path[-1].blocks, path[-1].experts), plan(model.spec, path[:-1])
    rows, tokens = [], []
    for batch in batches(text.windows(model), model):
        sums = sweep(model, steps, batch.ids, batch.lengths, first=batch.first, kl=False)["nll"]
        place = {ablation: i for i, ablation in enumerate(steps.ablations)}
        last = sweep(final, plan(final.spec, []), batch.ids, batch.lengths, first=batch.first, kl=False)["nll"]
        rows.append(torch.cat([sums[[place[a] for a in path[:-1]]], last]).numpy())
        tokens.append(batch.tokens)
    return Loss(path, np.concatenate(rows, axis=1), np.concatenate(tokens))


class Method(NamedTuple):
    """What made new weights."""

    title: str
    level: float


@dataclass(frozen=True)
class PruningJob:
    """All about one pruned checkpoint but its weights."""

    model: BlockModel
    source: Source
    order: Named[Order] | None  # None: the blocks were given
    text: Text  # held-out
    calibration: Text | None  # None: nothing was found on any
    loss: Loss
    left: Cut
    method: Method | None = None  # None: parts go, and all other weights stay

    @property
    def out(self) -> Ablation:
        """What is gone."""
        return self.loss.path[-1]

    @property
    def removed(self) -> list[int]:
        """The blocks that are."""
        return sorted(self.out.blocks)

    @property
    def experts(self) -> list[tuple[int, int]]:
        """Block and number of those that are."""
        return sorted(self.out.experts)

    @property
    def cut(self) -> str:
        """What is gone beside blocks, and how, as text; empty where nothing is."""
        experts = Ablation(experts=self.out.experts)
        rest = replace(self.out, blocks=frozenset(), experts=frozenset())
        said = {rest: "zero" if self.left.zeroed else "deleted", experts: "deleted"}
        return "; ".join(f"{out} {how}" for out, how in said.items() if out)

    @property
    def needed(self) -> int | None:
        """Parameters that are left when all that is out is deleted; None where heads cannot be, without what others need."""
        try:
            return self.model.spec.n_params - saved(self.model, self.out).params
        except StrataError:
            return None

    def record(self, written: dict[str, Any], files: dict[str, int]) -> dict[str, Any]:
        """What strata.json says: where the model comes from, what is out, by which order, and what that costs and saves.

        `written`: what was read back, and how. `files`: bytes of what was written, and of the dense model's tensors in the same
        precision.
        """
        spec, loss = self.model.spec, self.loss
        found = noted(self.order.name, self.order.thing.title, self.order.thing.version) if self.order else None
        kept = remaining(spec, self.removed)
        ancestors = ancestors_of(spec.name, spec.source_hash, len(spec.blocks), self.model.ancestors, kept, self.cut)
        parameters = {"dense": spec.n_params, "pruned": self.left.model.spec.n_params}
        texts = {"calibration": self.calibration, "held-out": self.text}
        corpora = {
            name: text.identity | {"documents": text.documents, "windows_hash": windows_hash(text.windows(self.model))}
            for name, text in texts.items()
            if text is not None
        }
        about: dict[str, Any] = {"method": {"name": self.method.title, "level": self.method.level}} if self.method else {}
        if not _blocks_alone(self.out):
            about |= {"out": self.out.to_json(), "zeroed": self.left.zeroed}
        if self.out.parts.keys() - {"blocks", "experts"} and self.needed:
            parameters |= {"needed": self.needed}
        if spec.has_experts:
            met = {"dense": spec.active_params, "pruned": self.left.model.spec.active_params}
            about |= {"experts": {"removed": self.experts, "active_parameters": met}}
        return {
            "source": {"model": self.source.asked, "revision": self.source.revision, "name": spec.name, "hash": spec.source_hash},
            "family": spec.family,
            "variant": spec.variant,
            "blocks": {"dense": len(spec.blocks), "removed": self.removed, "kept": kept},
            "ancestors": [ancestor._asdict() for ancestor in ancestors],
            "order": {"metric": found, "sets": [sorted(a.blocks) if _blocks_alone(a) else a.to_json() for a in loss.path]},
            **about,
            "parameters": parameters,
            "files": files,
            "corpora": corpora,
            "loss": {
                "unit": "nats per token",
                "dense": loss.dense.value,
                "pruned": loss.pruned.value,
                "rise": dict(zip(("value", "ci_low", "ci_high"), loss.rises[-1], strict=True)),
                "n_documents": len(loss.tokens),
                "n_tokens": int(loss.tokens.sum()),
            },
            "rerooted": rerooted(spec, self.removed),
            "written": written,
            "computed": {"dtype": self.model.precision, "device": self.model.device.type},
            "versions": {name: version(name) for name in VERSIONS} | {"python": platform.python_version()},
        }


def prepare(
    model: BlockModel,
    source: Source,
    text: Text,
    *,
    by: str | Search | Listing,
    amount: Amount,
    kinds: Sequence[str] = (),
    how: str = "auto",
    tell: ProgressCallback = no_progress,
) -> PruningJob:
    """Finds what goes, so much of it in the order `by` of parts of these `kinds` (`order_of`), and measures what that costs.

    `text` is held-out; calibration text is taken from the same corpus. `how` parts go is as in `cut`. Raises StrataError on parts
    that cannot go.
    """
    amount.check()
    order = order_of(by, kinds)
    require_cut(model, how, order.thing.kinds)
    most = amount.most(model, order.thing)
    calibration = text.calibration(model)
    path = amount.end(model, find_path(model, calibration, order.thing, most, tell))
    path = path if order.thing.kinds == BLOCKS else thinned(path, POINTS)
    return _job(model, source, order, text, calibration, path, how)


def prepare_given(model: BlockModel, source: Source, text: Text, out: Ablation | Sequence[int], how: str = "auto") -> PruningJob:
    """The same of parts that are given, or of blocks in the order in which they go."""
    if isinstance(out, Ablation):
        path = (NONE, out.canonical(model.spec)) if not _blocks_alone(out) else nested(sorted(out.blocks))
    else:
        remaining(model.spec, out)
        path = nested(out)
    if not path[-1]:
        raise StrataError(f"nothing of {model.spec.name} is named that could go: name blocks, or heads, mixers, ffns and experts")
    return _job(model, source, None, text, None, path, how)


def _job(
    model: BlockModel, source: Source, order: Named[Order] | None, text: Text, calibration: Text | None, path: RemovalPath, how: str
) -> PruningJob:
    left = cut(model, source, path[-1], how)
    return PruningJob(model, source, order, text, calibration, measure_loss(model, path, text, left.model), left)


def _blocks_alone(out: Ablation) -> bool:
    return not out.parts.keys() - {"blocks"}
