"""Quantised checkpoints, made with llmcompressor: GPTQ with 4 bits on calibration text, and int8 rounded to nearest.

Weights of all matrices in blocks are quantised, embeddings and head are not; activations stay floats. Both come from one
writer, in the format that stock loaders and `adapters/checkpoints/quantised.py` read. llmcompressor is imported where it is used.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from adapters.base import BlockModel
from adapters.checkpoints.configs import both_dialects
from adapters.checkpoints.export import BESIDE, Source
from adapters.checkpoints.files import read_json as read_config
from adapters.checkpoints.folders import finished_or_nothing, write_json, writing
from adapters.checkpoints.layout import Store
from adapters.checkpoints.quantised import require_floats
from adapters.errors import StrataError, missing_extra
from adapters.specs import ModelSpec
from analysis.data.batches import Batch
from analysis.data.hashes import content_hash
from analysis.runs.files import read_json


@dataclass(frozen=True, slots=True)
class Scheme:
    """How weights become integers; symmetric around zero."""

    title: str
    bits: int
    calibrated: bool  # GPTQ, in groups; else to nearest, with one scale a row


SCHEMES = {"gptq": Scheme("GPTQ 4-bit", 4, True), "int8": Scheme("int8", 8, False)}
GROUPS = (128, 32)  # columns that share a scale: the first that every row is a multiple of
MAKERS = ("llmcompressor", "compressed-tensors", "transformers", "torch")


def widest(model: BlockModel) -> int:
    """Columns of the widest matrix in a block: GPTQ needs as many tokens at least."""
    return max(_widths(model))


def group_of(model: BlockModel) -> int:
    """Columns that share a scale. Raises StrataError when no size divides every row."""
    found = next((group for group in GROUPS if all(width % group == 0 for width in _widths(model))), None)
    if found is None:
        sizes = ", ".join(map(str, sorted(_widths(model))))
        raise StrataError(f"rows of {model.spec.name} have {sizes} weights: groups of {' or '.join(map(str, GROUPS))} do not fit; use int8")
    return found


def require(spec: ModelSpec) -> None:
    """Raises StrataError when a model cannot be quantised, with the reason."""
    require_floats(spec, "quantisation")
    if spec.family != "llama":
        read = {"baichuan": "; a GPTQ checkpoint of it can be read"}.get(spec.family, "")
        raise StrataError(
            f"{spec.name} ({spec.family}) cannot be quantised: llmcompressor works on models of transformers, and others come with code "
            f"that is not run here{read}"
        )
    if find_spec("llmcompressor") is None:
        raise missing_extra("llmcompressor")


@dataclass(frozen=True)
class Recipe:
    """What is quantised, and how."""

    model: BlockModel
    source: Source
    scheme: str  # name in SCHEMES
    removed: tuple[int, ...] = ()  # blocks that are taken out before
    text: tuple[Batch, ...] = ()  # calibration
    seed: int = 0
    damping: float = 0.01  # of the mean of the second moments' diagonal, added to the diagonal

    @property
    def weights(self) -> dict[str, Any]:
        """As compressed-tensors says it."""
        scheme = SCHEMES[self.scheme]
        groups = {"strategy": "group", "group_size": group_of(self.model)} if scheme.calibrated else {"strategy": "channel"}
        return {"num_bits": scheme.bits, "type": "int", "symmetric": True, **groups}

    @property
    def rows(self) -> list[list[int]]:
        """Tokens of the calibration text, by document. Raises StrataError when there are fewer than a matrix has columns."""
        if not SCHEMES[self.scheme].calibrated:
            return []
        rows = [ids[:n].tolist() for batch in self.text for ids, n in zip(batch.ids, batch.lengths, strict=True)]
        if (found := sum(map(len, rows))) < (needed := widest(self.model)):
            raise StrataError(
                f"calibration text of {found} tokens is too short for {self.model.spec.name}, whose widest rows have {needed} weights: "
                "GPTQ's second moments would be singular; give more documents or a longer window"
            )
        return rows

    @property
    def identity(self) -> dict[str, Any]:
        """All that the result depends on."""
        made = {name: version(name) for name in MAKERS}
        calibration = {"documents": len(self.rows), "tokens": sum(map(len, self.rows)), "hash": content_hash(self.rows)}
        return {
            "source": {"model": self.source.asked, "name": self.model.spec.name, "hash": self.model.spec.source_hash},
            "removed_before": list(self.removed),
            "scheme": self.scheme,
            "weights": self.weights,
            **({"calibration": calibration, "seed": self.seed, "damping": self.damping} if SCHEMES[self.scheme].calibrated else {}),
            "device": device(),
            "versions": made,
        }

    def folder(self, root: Path) -> Path:
        """Where the result lies: readable, and different for different recipes."""
        without = f"-without-{len(self.removed)}" if self.removed else ""
        return root / f"{self.model.spec.name}{without}-{self.scheme}-{content_hash(self.identity)[:8]}"

    def make(self, root: Path) -> Path:
        """The folder of the quantised checkpoint; made unless it is there.

        Raises StrataError on a model that cannot be quantised, on calibration text that is too short, when a matrix has
        second moments that GPTQ cannot invert, and when there is no room.
        """
        require(self.model.spec)
        out = self.folder(root)
        if (out / "config.json").is_file():
            if content_hash(read_json(out / "strata.json", dict[str, Any], f"remove {out}")) != content_hash(self.identity):
                raise StrataError(f"{out} holds a checkpoint of another recipe: remove it to make it again")
        else:
            with finished_or_nothing(out, 2 * self.source.store.nbytes) as folder:  # a plain copy lies there for a while
                write(self, folder)
        return out


def write(recipe: Recipe, folder: Path) -> None:
    """Quantises as `Recipe` says and writes weights, configuration, tokenizer and strata.json. The same recipe gives the same bytes."""
    from transformers import AutoModelForCausalLM

    with TemporaryDirectory(dir=folder.parent) as plain, _quiet(), torch.random.fork_rng():
        with writing(folder):
            recipe.source.write(recipe.removed, Path(plain), "safetensors")
        model: Any = AutoModelForCausalLM.from_pretrained(plain, dtype="auto")
        torch.manual_seed(recipe.seed)
        _oneshot(model, recipe)
        with writing(folder):
            model.save_pretrained(folder)
            write_json(folder / "config.json", both_dialects(read_config(folder / "config.json")))
            for name in BESIDE:
                if (Path(plain) / name).is_file() and not (folder / name).is_file():
                    shutil.copyfile(Path(plain) / name, folder / name)
            write_json(folder / "strata.json", recipe.identity)


def _oneshot(model: Any, recipe: Recipe) -> None:
    """Quantises `model` in place, block by block; the second moments of a block are those behind the quantised blocks before it."""
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from loguru import logger

    groups = {"group_0": {"targets": ["Linear"], "weights": recipe.weights}}
    failed: list[str] = []
    sink = logger.add(failed.append, level="WARNING", format="{message}", filter=lambda record: "inversion failed" in record["message"])
    try:
        if rows := recipe.rows:
            data = Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]})
            modifier: Any = GPTQModifier(config_groups=groups, ignore=["lm_head"], dampening_frac=recipe.damping)
            oneshot(model=model, recipe=modifier, dataset=data, num_calibration_samples=len(rows), shuffle_calibration_samples=False)
        else:
            oneshot(model=model, recipe=QuantizationModifier(config_groups=groups, ignore=["lm_head"]))
    finally:
        logger.remove(sink)
    if failed:  # such matrices would be rounded to nearest, with a warning alone
        names = failed[0].strip().rpartition("modules: ")[2]
        raise StrataError(
            f"GPTQ cannot invert the second moments of {names}, damped by {recipe.damping:g} of their mean diagonal: give more calibration "
            f"text, with a larger window; from Python more damping, gptq.Recipe(damping={max(0.01, 10 * recipe.damping):g}), fixes it too"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """llmcompressor reports on stderr what it does, and on stdout at times."""
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        from llmcompressor import LoggerConfig, configure_logger

        configure_logger(LoggerConfig(console_log_level=None))
        yield


def device() -> str:
    """Where llmcompressor computes: on the accelerator that there is, whatever the model's device; nothing sets it."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found else "cpu"


def _widths(model: BlockModel) -> set[int]:
    return {w.shape[1] for block in model.blocks for w in block.weights.values() if w.dim() == 2}


def half_bytes(store: Store) -> int:
    """Of a checkpoint's tensors, where floats count two bytes each whatever the file holds them in."""
    tensors = (store.read(key) for key in store.shapes)
    return sum(t.numel() * (2 if t.is_floating_point() else t.element_size()) for t in tensors)
