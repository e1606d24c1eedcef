"""What is pruned, in which order it was found, and what that costs."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapters.base import BlockModel
from adapters.checkpoints.export import Source, remaining, remove_blocks, rerooted
from adapters.errors import StrataError
from adapters.plugins import Named, noted
from analysis.data.batches import Text, batches
from analysis.data.documents import windows_hash
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from analysis.removal.orders import Calibration, Listing, Order, Search, find_block_order
from analysis.removal.paths import RemovalPath, nested
from analysis.runs.folder import VERSIONS
from analysis.runs.settings import ProgressCallback, no_progress
from analysis.stats.intervals import Interval, ratio


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


def count_of(remove: int | None, ratio: float | None, n_blocks: int) -> int:
    """How many blocks go: `remove`, or a share of them, to two digits. Raises StrataError when it is none, or no number of blocks."""
    if ratio is None:
        if remove is None or not 0 < remove < n_blocks:
            raise StrataError(
                f"{remove or 0} of {n_blocks} blocks are to be removed: give a number from 1 to {n_blocks - 1}, for at least one must stay"
            )
        return remove
    if not 0 < ratio < 1:  # nor is nan
        raise StrataError(f"a ratio of {ratio:g} is not a share of the blocks: give one between 0 and 1, for example 0.25")
    count = round(ratio * n_blocks)
    if 0 < count < n_blocks and abs(count / n_blocks - ratio) < 0.005:
        return count
    near = sorted({min(max(int(ratio * n_blocks) + i, 1), n_blocks - 1) for i in (0, 1)})
    said = " or ".join(f"`n` {k} (ratio {k / n_blocks:.3f})" for k in near)
    raise StrataError(f"a ratio of {ratio:g} is {ratio * n_blocks:.4g} of {n_blocks} blocks, which is not a whole number: give {said}")


def measure_loss(model: BlockModel, path: RemovalPath, text: Text, final: BlockModel | None = None) -> Loss:
    """The loss along the path; at its end that of `final`, which is the pruned model where none is given.

    RWKV-7 without block 0 is another model when it is rerooted.
    """
    final, steps = final or remove_blocks(model, path[-1].blocks), plan(model.spec, path[:-1])
    rows, tokens = [], []
    for batch in batches(text.windows(model), model):
        sums = sweep(model, steps, batch.ids, batch.lengths, first=batch.first, kl=False)["nll"]
        place = {ablation: i for i, ablation in enumerate(steps.ablations)}
        last = sweep(final, plan(final.spec, []), batch.ids, batch.lengths, first=batch.first, kl=False)["nll"]
        rows.append(torch.cat([sums[[place[a] for a in path[:-1]]], last]).numpy())
        tokens.append(batch.tokens)
    return Loss(path, np.concatenate(rows, axis=1), np.concatenate(tokens))


class Rewritten(NamedTuple):
    """A pruned model some of whose weights are new."""

    method: str  # its title
    level: float
    model: BlockModel
    changed: dict[str, Tensor]  # by key in the new checkpoint


@dataclass(frozen=True)
class PruningJob:
    """All about one pruned checkpoint but its weights."""

    model: BlockModel
    source: Source
    order: Named[Order] | None  # None: the blocks were given
    text: Text  # held-out
    calibration: Text | None  # None: nothing was found on any
    loss: Loss
    rewritten: Rewritten | None = None  # None: blocks go, and all other weights stay

    @property
    def removed(self) -> list[int]:
        return sorted(self.loss.path[-1].blocks)

    def record(self, written: dict[str, Any], files: dict[str, int]) -> dict[str, Any]:
        """What strata.json says: where the model comes from, what is out, by which order, and what that costs and saves.

        `written`: what was read back, and how. `files`: bytes of what was written, and of the dense model's tensors in the same
        precision.
        """
        spec, loss = self.model.spec, self.loss
        found = noted(self.order.name, self.order.thing.title, self.order.thing.version) if self.order else None
        final = self.rewritten.model if self.rewritten else remove_blocks(self.model, self.removed)
        texts = {"calibration": self.calibration, "held-out": self.text}
        corpora = {
            name: text.identity | {"documents": text.documents, "windows_hash": windows_hash(text.windows(self.model))}
            for name, text in texts.items()
            if text is not None
        }
        method = {"method": {"name": self.rewritten.method, "level": self.rewritten.level}} if self.rewritten else {}
        return {
            "source": {"model": self.source.asked, "revision": self.source.revision, "name": spec.name, "hash": spec.source_hash},
            "family": spec.family,
            "variant": spec.variant,
            "blocks": {"dense": len(spec.blocks), "removed": self.removed, "kept": remaining(spec, self.removed)},
            "order": {"metric": found, "sets": [sorted(a.blocks) for a in loss.path]},
            **method,
            "parameters": {"dense": spec.n_params, "pruned": final.spec.n_params},
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
            "computed": {"dtype": str(self.model.dtype).removeprefix("torch."), "device": self.model.device.type},
            "versions": {name: version(name) for name in VERSIONS} | {"python": platform.python_version()},
        }


def prepare(
    model: BlockModel,
    source: Source,
    text: Text,
    *,
    by: str | Search | Listing | None,
    count: int = 0,
    blocks: Sequence[int] = (),
    tell: ProgressCallback = no_progress,
) -> PruningJob:
    """Finds which blocks go, `count` of them in the order `by` (`find_order`) or the given ones, and measures what that costs.

    `text` is held-out; calibration text is taken from the same corpus. Raises StrataError on blocks that cannot go.
    """
    order = None if by is None else find_block_order(by)
    remaining(model.spec, blocks if order is None else range(count))
    calibration = None if order is None else text.calibration(model)
    path = find_path(model, calibration, order.thing, count, tell) if order and calibration else nested(blocks)
    return PruningJob(model, source, order, text, calibration, measure_loss(model, path, text))
