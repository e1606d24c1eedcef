"""Writing a pruned checkpoint and reading it back in a fresh process: what was measured, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapters.ablation import NONE, Ablation
from adapters.base import BlockModel
from adapters.checkpoints.export import choose_format, file_bytes, remaining, remove_blocks, rerooted
from adapters.checkpoints.files import open_store
from adapters.checkpoints.folders import finished_or_nothing, require_empty, write_json, writing
from adapters.checkpoints.layout import Store
from adapters.checkpoints.stock import reader_of, stock_logits
from adapters.errors import StrataError
from adapters.memory import FILLED, free
from analysis.checkpoints.card import card
from analysis.checkpoints.prune import PruningJob
from analysis.checkpoints.samples import samples
from analysis.stats.intervals import Interval


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


def tolerance(reader: str, dtype: torch.dtype, mixed: bool = False) -> Tolerance:
    if mixed:
        return RMS
    if dtype in (torch.float32, torch.float64):
        return LARGEST
    return RMS if reader == "rwkv" else HALF


def write(job: PruningJob, out: Path, format: str) -> dict[str, Any]:
    """Writes `out`, reads it back in a fresh process, and returns what strata.json says. Leaves nothing when they differ.

    Raises StrataError when bytes or logits are not those of the ablation in memory, and when it cannot be written.
    """
    needed = job.source.without(job.removed, job.left.changed, job.experts).nbytes
    with finished_or_nothing(out, needed + (needed >> 6)) as folder:
        with writing(out):
            store = job.source.write(job.removed, folder, format, job.left.changed, job.left.config, job.experts)
        reader, written_hash = _reader(job.model, store, format), store.hash
        error = verify(job.model, job.out, folder, reader, written_hash, job.left.model if job.method else None)
        written = {
            "hash": written_hash,
            "read_by": reader,
            "error": tolerance(reader, job.model.dtype, job.model.mixed).name,
            "error_over_std": error,
        }
        record = job.record(written, {"dense": job.source.without([]).nbytes, "pruned": file_bytes(folder)})
        found = samples(job)
        with writing(out):
            record["generation"] = {"none": found} if isinstance(found, str) else found.to_json()
            write_json(folder / "strata.json", record)
            (folder / "README.md").write_text(card(job, record, found), encoding="utf-8")
    return record


def _reader(model: BlockModel, store: Store, format: str) -> str:
    """The loader that others read it with; this project's own where that would hold more at once than there is memory for."""
    needed = sum(torch.Size(shape).numel() for shape in store.shapes.values()) * model.dtype.itemsize
    return "strata" if needed > FILLED * free(torch.device("cpu")) else reader_of(model.spec, store, format)


@dataclass(frozen=True)
class Pruned:
    """A pruned model in memory, what that costs, and the way to its checkpoint."""

    job: PruningJob

    @property
    def removed(self) -> list[int]:
        """The blocks that are gone."""
        return self.job.removed

    @property
    def out(self) -> Ablation:
        """All that is gone."""
        return self.job.out

    @property
    def rise(self) -> Interval:
        """Of the loss over that of the unpruned model on held-out text, nats per token, with its 95 % interval."""
        return self.job.loss.rises[-1]

    @property
    def model(self) -> BlockModel:
        """The model as its checkpoint is read."""
        return self.job.left.model

    def save(self, folder: str | Path, format: str = "auto") -> dict[str, Any]:
        """Writes a checkpoint into a new folder, reads it back in a fresh process, and returns what its strata.json says.

        `format`: safetensors, or pth for native RWKV weights. Raises StrataError as `write` does, and when the folder is not new.
        """
        return write(self.job, require_empty(Path(folder).expanduser()), choose_format(self.job.source, format))


def _renumbered(out: Ablation, kept: Sequence[int]) -> Ablation:
    """What is out of a model whose blocks are gone, in its own numbers."""
    new = {old: i for i, old in enumerate(kept)}
    mixers, ffns = ({new[i] for i in indices} for indices in (out.mixers, out.ffns))
    return Ablation(mixers=frozenset(mixers), ffns=frozenset(ffns), heads=frozenset((new[i], head) for i, head in out.heads))


def verify(model: BlockModel, out: Ablation, folder: Path, reader: str, expected_hash: str, rewritten: BlockModel | None = None) -> float:
    """The error of the logits, read in a fresh process, over their standard deviation in memory (`tolerance`).

    In memory it is the ablation or, where weights are new, the `rewritten` model: for an RWKV-7 without block 0 the rerooted
    one. Raises StrataError when bytes on the disk are not those that were written, and when logits differ.
    """
    time = min(32, model.spec.max_len - 1)
    ids = torch.randint(0, model.spec.vocab_size, (2, time), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        dense, rest = rewritten or model, NONE if rewritten else out
        if rewritten is None and rerooted(model.spec, out.blocks):
            dense, rest = remove_blocks(model, out.blocks), _renumbered(out, remaining(model.spec, out.blocks))
        expected = dense.run(ids.to(model.device), rest).float().cpu()
    found = stock_logits(reader, folder, ids, str(model.device), str(model.dtype).removeprefix("torch."))
    if open_store(folder).hash != expected_hash:
        raise StrataError("the weights on the disk are not those that were written: nothing is kept; look for a damaged disk")
    name, norm, most = tolerance(reader, model.dtype, model.mixed)
    error = float(norm(found - expected) / expected.std())
    if not error <= most:
        raise StrataError(
            f"what was written is not the ablated model as {reader} reads it ({name} error of its logits {error:.1e} of their spread, "
            f"expected is {most:g} at most): nothing is kept; look for another version of {reader}"
        )
    return error
