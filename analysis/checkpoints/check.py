"""A checkpoint of somebody's own: the contract on a few of its blocks, and its logits as a stock loader computes them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapters.base import BlockModel
from adapters.block import Block
from adapters.checkpoints.configs import periods, stock_config
from adapters.checkpoints.export import Source, choose_format
from adapters.checkpoints.stock import reader_of, stock_logits
from adapters.contract import CHECKS
from adapters.contract.tools import TIME, cast
from adapters.errors import StrataError, foreign, one_line
from adapters.registry import load, locate
from analysis.checkpoints.write import tolerance

LARGE = 1_000_000_000  # parameters above which a few blocks are checked and not all
FEW = 2  # blocks that are always among them
TEXT = 64  # tokens that are read; more where blocks slide, so that their windows end in the text
WINDOW = 1024  # ... up to this one


@dataclass(frozen=True)
class Checked:
    """What holds of a checkpoint."""

    model: str
    model_type: str
    contract: tuple[int, ...]  # blocks that the suite ran on
    failed: dict[str, str]  # its checks that did not hold, and what they found
    parity: tuple[int, ...]  # blocks of the checkpoint whose logits were compared
    reader: str  # what read it beside this project; "strata": nothing did
    error: float | None  # of the logits, over their standard deviation; None: there is nothing to compare with
    allowed: float
    where: str  # first stream that differs, where logits do and transformers shows its own

    @property
    def same(self) -> bool:
        return not self.failed and (self.error is None or self.error <= self.allowed)


def check(source: str, *, device: str = "auto", revision: str | None = None, weights: str = "auto") -> Checked:
    """Of a model as `load` takes it, in fp32; where `weights` are streamed, the contract is still checked on a few blocks in memory.

    Raises StrataError where it cannot be loaded, or not be read by a stock loader.
    """
    shapes = load(source, device="meta", dtype="float32", revision=revision, weights=weights)
    if shapes.spec.max_len < TIME:
        raise StrataError(f"{shapes.spec.name} reads {shapes.spec.max_len} tokens: the checks take {TIME}, use one with a longer context")
    few, files = some_blocks(shapes), Source.of(source, shapes.spec, revision)
    written = range(max(few) + 1) if periods(stock_config(files.config)) else few
    blocks = list(written if shapes.spec.n_params > LARGE else range(len(shapes.blocks)))
    format = choose_format(files, "auto")
    reader = reader_of(shapes.spec, files.store, format)
    with tempfile.TemporaryDirectory() as temporary:
        folder = placed(files, blocks, Path(temporary) / "model", format, as_it_is=reader == "transformers")
        model = load(next(iter(folder.glob("*.pth")), folder), device=device, dtype="float32", weights=weights)
        model.spec = replace(model.spec, name=shapes.spec.name)
        error, where = None, ""
        _, norm, allowed = tolerance(reader, files.store.read(next(iter(files.store.shapes))).dtype if reader == "rwkv" else model.dtype)
        if reader != "strata":
            ids = text(model)
            with torch.inference_mode():
                found = model.run(ids).float().cpu()
            expected = stock_logits(reader, folder, ids, str(model.device), "float32")
            error = float(norm(found - expected) / expected.std())
            if not error <= allowed and reader == "transformers":
                with foreign(shapes.spec.name):
                    where = first_difference(model, folder, ids, blocks, allowed)
        failed = contract(model.with_blocks([model.blocks[blocks.index(i)] for i in few]))
    config_says = str(files.config.get("model_type", shapes.spec.variant))
    return Checked(shapes.spec.name, config_says, tuple(few), failed, tuple(blocks), reader, error, allowed, where)


def some_blocks(model: BlockModel) -> list[int]:
    """The first blocks, and the first of each kind that there is."""
    kinds = [_kind(block) for block in model.blocks]
    return sorted({*range(min(FEW, len(kinds))), *(kinds.index(kind) for kind in kinds)})


def _kind(block: Block) -> tuple:
    window = getattr(getattr(block, "attention", None), "window", None)
    return block.spec, frozenset(block.weights), getattr(block, "rotation", None), window


def placed(files: Source, blocks: list[int], folder: Path, format: str, *, as_it_is: bool) -> Path:
    """A folder with these blocks of a checkpoint: a link to its own where that holds no others and can be read `as_it_is`."""
    n = len(files.spec.blocks)
    _, path = locate(files.asked, files.revision)
    if as_it_is and len(blocks) == n and path.is_dir():
        folder.symlink_to(path.resolve())
        return folder
    try:
        folder.mkdir()
        files.write(set(range(n)) - set(blocks), folder, format)
    except OSError as error:
        raise StrataError(
            f"cannot write what is compared to {folder.parent} ({one_line(error)}): set TMPDIR to a folder with room"
        ) from error
    return folder


def text(model: BlockModel) -> Tensor:
    """(2, T) random tokens; T goes beyond the windows of blocks that slide."""
    windows = [getattr(getattr(block, "attention", None), "window", None) or 0 for block in model.blocks]
    time = min(max(TEXT, *(w + TEXT for w in windows if w <= WINDOW)), model.spec.max_len - 1)
    return torch.randint(model.spec.vocab_size, (2, time), generator=torch.Generator().manual_seed(0)).to(model.device)


def contract(model: BlockModel) -> dict[str, str]:
    """Checks of the suite that do not hold, and what they say; in fp64, see `adapters.contract`."""
    failed, model = {}, cast(model, torch.float64)
    for one in CHECKS:
        try:
            one(model)
        except (AssertionError, StrataError) as error:
            failed[one.__name__.removeprefix("check_")] = one_line(error)
    return failed


def first_difference(model: BlockModel, folder: Path, ids: Tensor, blocks: list[int], allowed: float) -> str:
    """The first stream of the model that is not transformers' own."""
    from transformers import AutoModelForCausalLM

    reference: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    reference = reference.to(model.device).eval()
    ours: list[Tensor] = []
    with torch.inference_mode():
        model.stream(ids, tap=lambda i, parts: ours.append(parts.x_in))
        theirs = reference(ids, use_cache=False, output_hidden_states=True).hidden_states
    places = ["the embedding", *(f"block {i}" for i in blocks[:-1])]
    for place, a, b in zip(places, ours, theirs, strict=False):
        if not float((a - b).abs().max() / b.std()) <= allowed:
            return place
    return f"block {blocks[-1]}, the last norm or the head"
