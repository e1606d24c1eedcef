"""Prune, save, read back: a checkpoint with its measured loss and its origin, or nothing."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.export import Source, file_bytes, finished_or_nothing, n_bytes, pruned, remaining, rerooted, write_json
from adapters.layout import open_store
from adapters.stock import reader_of, stock_logits
from analysis.conclusions import too_few
from analysis.corpora import require_disjoint, windows_hash
from analysis.corpora.text import Text, batches
from analysis.plan import plan
from analysis.pruning.orders import ORDERS, Calibration, nested
from analysis.pruning.paths import RemovalPath
from analysis.runs import VERSIONS
from analysis.setting import Tell, silent
from analysis.statistics import Interval, ratio
from analysis.sweep import sweep
from analysis.words import bounded, escape, number

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}  # largest error of logits over their standard deviation
HALF = 5e-2  # in half precision, whose sums depend on their order


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


def find_path(model: BlockModel, text: Text, by: str, most: int, tell: Tell) -> RemovalPath:
    """The first `most` removals of an order, found on the calibration text."""
    return ORDERS[by].find(Calibration(model, list(batches(text.windows(model), model)), text.seed, tell), most)


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


def measure_loss(model: BlockModel, path: RemovalPath, text: Text) -> Loss:
    """The loss along the path, and of the pruned model itself: RWKV-7 without block 0 is another model when it is rerooted."""
    final, steps = pruned(model, path[-1].blocks), plan(model.spec, path)
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
    knob: float
    model: BlockModel
    changed: dict[str, Tensor]  # by key in the new checkpoint


@dataclass(frozen=True)
class Pruning:
    """All about one pruned checkpoint but its weights."""

    model: BlockModel
    source: Source
    order: str | None  # name in ORDERS; None: the blocks were given
    text: Text  # held-out
    calibration: Text
    loss: Loss
    rewritten: Rewritten | None = None  # None: blocks go, and all other weights stay

    @property
    def removed(self) -> list[int]:
        return sorted(self.loss.path[-1].blocks)

    def write(self, out: Path, format: str) -> dict[str, Any]:
        """Writes `out`, reads it back in a fresh process, and returns what strata.json says. Leaves nothing when they differ.

        Raises StrataError when bytes or logits are not those of the ablation in memory, and when it cannot be written.
        """
        needed, changed = n_bytes(self.source.without(self.removed)), self.rewritten.changed if self.rewritten else {}
        with finished_or_nothing(out, needed + (needed >> 6)) as folder:
            store = self.source.write(self.removed, folder, format, changed)
            reader = reader_of(self.model.spec, store, format)
            error = verify(self.model, self.removed, folder, reader, store.hash, self.rewritten.model if self.rewritten else None)
            files = {"dense": n_bytes(self.source.without([])), "pruned": file_bytes(folder)}
            record = self.record(store.hash, reader, error, files)
            write_json(folder / "strata.json", record)
            (folder / "README.md").write_text(self.card(record), encoding="utf-8")
        return record

    def record(self, written_hash: str, reader: str, error: float, files: dict[str, int]) -> dict[str, Any]:
        """What strata.json says: where the model comes from, what is out, by which order, and what that costs and saves.

        `files`: bytes of what was written, and of the dense model's tensors in the same precision.
        """
        spec, loss = self.model.spec, self.loss
        final = self.rewritten.model if self.rewritten else pruned(self.model, self.removed)
        texts = {"calibration": self.calibration, "held-out": self.text}
        corpora = {
            name: text.identity | {"documents": text.documents, "windows_hash": windows_hash(text.windows(self.model))}
            for name, text in texts.items()
            if name != "calibration" or self.order or self.rewritten
        }
        method = {"method": {"name": self.rewritten.method, "knob": self.rewritten.knob}} if self.rewritten else {}
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
            "written": {"hash": written_hash, "read_by": reader, "max_error_over_std": error},
            "computed": {"dtype": str(self.model.dtype).removeprefix("torch."), "device": self.model.device.type},
            "versions": {name: version(name) for name in VERSIONS} | {"python": platform.python_version()},
        }

    def card(self, record: dict[str, Any]) -> str:
        """README.md of the checkpoint."""
        spec, loss, removed = self.model.spec, self.loss, ", ".join(map(str, self.removed))
        n, parameters, files = len(loss.tokens), record["parameters"], record["files"]
        same = "as converted to fp32" if self.source.converted else "byte for byte"
        lines = [
            f"# {escape(spec.name)} without {len(self.removed)} of its {len(spec.blocks)} blocks",
            "",
            f"Blocks {removed} (0-based) of {escape(self.source.asked)} are removed, {self._how}. Nothing was trained afterwards, "
            f"and all other weights are those of the source, {same}.",
            "",
            f"Parameters: {parameters['pruned'] / 1e6:,.1f} M of {parameters['dense'] / 1e6:,.1f} M. "
            f"File: {files['pruned'] / 1e6:,.1f} MB of {files['dense'] / 1e6:,.1f} MB. {USE[record['written']['read_by']]}",
            *([REROOTED] if record["rerooted"] else []),
            "",
            "## What it costs",
            f"Loss on held-out text ({escape(self.text.corpus)}, {n} documents, {self.text.window} tokens of each), in nats a token"
            + (", with 95 % bootstrap intervals of the paired difference." if loss.rises[-1].low is not None else f"; {too_few(n)}."),
            "",
            "| blocks out | removed | loss | rise over the dense model |",
            "| ---: | :--- | ---: | ---: |",
        ]
        for out, row, rise in zip(loss.path, loss.nll, loss.rises, strict=True):
            said = ", ".join(map(str, sorted(out.blocks))) or "none"
            lines.append(f"| {len(out.blocks)} | {said} | {number(float(row.sum() / loss.tokens.sum()))} | {bounded(rise)} |")
        lines += ["", "The loss says little about generation and about tasks, which can suffer more. Details are in strata.json.", ""]
        return "\n".join(lines)

    @property
    def _how(self) -> str:
        if self.rewritten:
            return f"by {self.rewritten.method}, whose calibration text gave the weights {', '.join(sorted(self.rewritten.changed))}"
        return f"by the order by {ORDERS[self.order].title} on calibration text" if self.order else "by a list that was given"


USE = {
    "transformers": "`AutoModelForCausalLM.from_pretrained` reads it.",
    "rwkv": "The `rwkv` package reads it.",
    "strata": "Strata reads it (`from adapters import load; load(FOLDER)`), and so does the code that reads its source; none is copied "
    "here.",
}
REROOTED = (
    "Its first block is now the source of RWKV-7's v_first, which was that of block 0. Losses are of this model in the last row below; "
    "models of rows above it without block 0 keep its v_first."
)


def verify(
    model: BlockModel, removed: Sequence[int], folder: Path, reader: str, expected_hash: str, rewritten: BlockModel | None = None
) -> float:
    """The largest error of the logits, read in a fresh process, over their standard deviation in memory.

    In memory it is the ablation or, where weights are new, the `rewritten` model: for an RWKV-7 without block 0 the rerooted
    one. Raises StrataError on a difference.
    """
    path = next(iter(folder.glob("*.pth")), folder)
    time = min(32, model.spec.max_len - 1)
    ids = torch.randint(0, model.spec.vocab_size, (2, time), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        if rewritten is None and rerooted(model.spec, removed):
            rewritten = pruned(model, removed)
        run = rewritten.run if rewritten else lambda x: model.run(x, Ablation(blocks=frozenset(removed)))
        expected = run(ids.to(model.device)).float().cpu()
    found = stock_logits(reader, folder, ids, str(model.device), str(model.dtype).removeprefix("torch."))
    error = float((found - expected).abs().max() / expected.std())
    if open_store(path).hash != expected_hash or not error <= TOLERANCE.get(model.dtype, HALF):
        raise StrataError(
            f"what was written is not the ablated model (its logits are off by {error:.1e} of their spread as {reader} reads them): "
            "nothing is kept; look for a damaged disk, or another version of the loader"
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
    tell: Tell = silent,
) -> Pruning:
    """Finds which blocks go, `count` of them in the order `by` or the given ones, and measures what that costs.

    `text` is held-out; calibration text is taken from the same corpus. Raises StrataError on blocks that cannot go.
    """
    calibration = Text(corpus=text.corpus, split="calibration", window=text.window, documents=text.documents, seed=text.seed)
    if by is None:
        remaining(model.spec, blocks)
        path = nested(blocks)
    else:
        remaining(model.spec, range(count))
        require_disjoint(text.windows(model), calibration.windows(model))
        path = find_path(model, calibration, by, count, tell)
    loss = measure_loss(model, path, text)
    return Pruning(model, source, by, text, calibration, loss)
