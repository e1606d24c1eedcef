"""Prune, save, read back: a checkpoint with its measured loss and its origin, or nothing."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.checkpoints.export import Source, file_bytes, remaining, remove_blocks, rerooted
from adapters.checkpoints.files import open_store
from adapters.checkpoints.folders import finished_or_nothing, write_json, writing
from adapters.checkpoints.stock import reader_of, stock_logits
from adapters.errors import StrataError
from analysis.checkpoints.card import card
from analysis.data.batches import Text, batches
from analysis.data.documents import windows_hash
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from analysis.removal.orders import ORDERS, Calibration, nested
from analysis.removal.paths import RemovalPath
from analysis.runs.folder import VERSIONS
from analysis.runs.settings import ProgressCallback, no_progress
from analysis.stats.intervals import Interval, ratio


class Tolerance(NamedTuple):
    """How far logits that are read back may be off, over their standard deviation."""

    name: str
    norm: Callable[[Tensor], Tensor]  # of the errors
    most: float


LARGEST = Tolerance("largest", lambda errors: errors.abs().max(), 1e-4)
HALF = LARGEST._replace(most=5e-2)  # in half precision, whose sums depend on their order
# The rwkv package computes in fp32 what was half precision in memory: single logits are far off (0.14), all of them together
# are not (0.01; with a block wrong 0.16).
RMS = Tolerance("rms", lambda errors: errors.square().mean().sqrt(), 4e-2)


def tolerance(reader: str, dtype: torch.dtype) -> Tolerance:
    if dtype in (torch.float32, torch.float64):
        return LARGEST
    return RMS if reader == "rwkv" else HALF


@dataclass(frozen=True)
class Loss:
    """What a removal path costs on held-out text; nats a token."""

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


def find_path(model: BlockModel, text: Text, by: str, most: int, tell: ProgressCallback) -> RemovalPath:
    """The first `most` removals of an order, found on the calibration text."""
    return ORDERS[by].find(Calibration(model, list(batches(text.windows(model), model)), tell), most)


def count_of(ratio: float, n_blocks: int) -> int:
    """How many blocks a share of them is, to two digits. Raises StrataError, naming the nearest, when it is no number of blocks."""
    if not 0 < ratio < 1:  # nor is nan
        raise StrataError(f"a ratio of {ratio:g} is no share of the blocks: give one between 0 and 1, for example 0.25")
    count = round(ratio * n_blocks)
    if 0 < count < n_blocks and abs(count / n_blocks - ratio) < 0.005:
        return count
    near = sorted({min(max(int(ratio * n_blocks) + i, 1), n_blocks - 1) for i in (0, 1)})
    said = " or ".join(f"--remove {k} (ratio {k / n_blocks:.3f})" for k in near)
    raise StrataError(f"a ratio of {ratio:g} is {ratio * n_blocks:.4g} of {n_blocks} blocks, which is no number of them: give {said}")


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
    order: str | None  # name in ORDERS; None: the blocks were given
    text: Text  # held-out
    calibration: Text | None  # None: nothing was found on any
    loss: Loss
    rewritten: Rewritten | None = None  # None: blocks go, and all other weights stay

    @property
    def removed(self) -> list[int]:
        return sorted(self.loss.path[-1].blocks)

    def write(self, out: Path, format: str) -> dict[str, Any]:
        """Writes `out`, reads it back in a fresh process, and returns what strata.json says. Leaves nothing when they differ.

        Raises StrataError when bytes or logits are not those of the ablation in memory, and when it cannot be written.
        """
        needed, changed = self.source.without(self.removed).nbytes, self.rewritten.changed if self.rewritten else {}
        with finished_or_nothing(out, needed + (needed >> 6)) as folder:
            with writing(out):
                store = self.source.write(self.removed, folder, format, changed)
            reader, written_hash = reader_of(self.model.spec, store, format), store.hash
            error = verify(self.model, self.removed, folder, reader, written_hash, self.rewritten.model if self.rewritten else None)
            written = {"hash": written_hash, "read_by": reader, "error": tolerance(reader, self.model.dtype).name, "error_over_std": error}
            record = self.record(written, {"dense": self.source.without([]).nbytes, "pruned": file_bytes(folder)})
            with writing(out):
                write_json(folder / "strata.json", record)
                (folder / "README.md").write_text(card(self, record), encoding="utf-8")
        return record

    def record(self, written: dict[str, Any], files: dict[str, int]) -> dict[str, Any]:
        """What strata.json says: where the model comes from, what is out, by which order, and what that costs and saves.

        `written`: what was read back, and how. `files`: bytes of what was written, and of the dense model's tensors in the same
        precision.
        """
        spec, loss = self.model.spec, self.loss
        final = self.rewritten.model if self.rewritten else remove_blocks(self.model, self.removed)
        texts = {"calibration": self.calibration, "held-out": self.text}
        corpora = {
            name: text.identity | {"documents": text.documents, "windows_hash": windows_hash(text.windows(self.model))}
            for name, text in texts.items()
            if text is not None
        }
        method = {"method": {"name": self.rewritten.method, "knob": self.rewritten.level}} if self.rewritten else {}
        return {
            "source": {"model": self.source.asked, "revision": self.source.revision, "name": spec.name, "hash": spec.source_hash},
            "family": spec.family,
            "variant": spec.variant,
            "blocks": {"dense": len(spec.blocks), "removed": self.removed, "kept": remaining(spec, self.removed)},
            "order": {"metric": self.order, "sets": [sorted(a.blocks) for a in loss.path]},
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


def verify(
    model: BlockModel, removed: Sequence[int], folder: Path, reader: str, expected_hash: str, rewritten: BlockModel | None = None
) -> float:
    """The error of the logits, read in a fresh process, over their standard deviation in memory (`tolerance`).

    In memory it is the ablation or, where weights are new, the `rewritten` model: for an RWKV-7 without block 0 the rerooted
    one. Raises StrataError when bytes on the disk are not those that were written, and when logits differ.
    """
    time = min(32, model.spec.max_len - 1)
    ids = torch.randint(0, model.spec.vocab_size, (2, time), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        if rewritten is None and rerooted(model.spec, removed):
            rewritten = remove_blocks(model, removed)
        run = rewritten.run if rewritten else lambda x: model.run(x, Ablation(blocks=frozenset(removed)))
        expected = run(ids.to(model.device)).float().cpu()
    found = stock_logits(reader, folder, ids, str(model.device), str(model.dtype).removeprefix("torch."))
    if open_store(folder).hash != expected_hash:
        raise StrataError("the weights on the disk are not those that were written: nothing is kept; look for a damaged disk")
    name, norm, most = tolerance(reader, model.dtype)
    error = float(norm(found - expected) / expected.std())
    if not error <= most:
        raise StrataError(
            f"what was written is not the ablated model as {reader} reads it ({name} error of its logits {error:.1e} of their spread, "
            f"expected is {most:g} at most): nothing is kept; look for another version of {reader}"
        )
    return error


def prepare(
    model: BlockModel,
    source: Source,
    text: Text,
    *,
    by: str | None,
    count: int = 0,
    blocks: Sequence[int] = (),
    tell: ProgressCallback = no_progress,
) -> PruningJob:
    """Finds which blocks go, `count` of them in the order `by` or the given ones, and measures what that costs.

    `text` is held-out; calibration text is taken from the same corpus. Raises StrataError on blocks that cannot go.
    """
    remaining(model.spec, blocks if by is None else range(count))
    calibration = None if by is None else text.calibration(model)
    path = find_path(model, calibration, by, count, tell) if by and calibration else nested(blocks)
    return PruningJob(model, source, by, text, calibration, measure_loss(model, path, text))
