"""GGUF files: keys and values of the header, names and shapes of tensors, parts, and bytes in front of the weights."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import gguf
import numpy as np
import pytest
from torch import Tensor

from tests.adapters.checkpoints import gguf_files
from tests.fuzz import gguf_reference
from tests.fuzz.core import Kind
from tests.fuzz.models import Model, judge, logits
from tests.fuzz.mutations import other, raw

YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16}
WITHOUT = dict.fromkeys(("attention.key_length", "attention.value_length", "rope.dimension_count", "attention.head_count_kv"))
BASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {  # architecture, model, header, how it is written
    "llama": ("llama", {}, {}, {}),
    "llama-bare": ("llama", {"num_key_value_heads": 4}, WITHOUT, {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}, {}, {}),
    "llama-linear": ("llama", {}, {"rope.scaling.type": "linear", "rope.scaling.factor": 3.0}, {}),
    "llama-split": ("llama", {}, {}, {"split_max_tensors": 8}),
    "llama-8-bits": ("llama", {"intermediate_size": 64}, {}, {"kind": gguf.GGMLQuantizationType.Q8_0}),
    "qwen2": ("qwen2", {}, {"attention.sliding_window": 64}, {}),
    "qwen2-yarn": ("qwen2", {}, YARN, {}),
    "qwen3": ("qwen3", {"head_dim": 16}, {}, {}),
}
KEYS = (
    "expert_count rope.scale_linear rope.scaling.type rope.scaling.factor attention.sliding_window attention.scale logit_scale vocab_size "
    "rope.freq_base rope.dimension_count final_logit_softcapping attention.causal pooling_type attention.clamp_kqv"
).split()
TENSORS = ("output.weight", "rope_freqs.weight", "blk.0.attn_q.bias", "blk.2.attn_q.weight", "blk.0.ffn_gate_inp.weight", "x", "")


class Written(NamedTuple):
    """A model, and its file as tables."""

    model: Model
    arch: str
    values: dict[str, Any]
    tensors: dict[str, np.ndarray]
    options: dict[str, Any]


def _make(root: Path) -> dict[str, Written]:
    found = {}
    for name, (arch, config, changes, options) in BASES.items():
        (root / name).mkdir()
        model = gguf_files.tiny(arch, **config)
        own = {f"{arch}.{key}": value for key, value in changes.items()}
        values, tensors = gguf_files.header(model, arch) | own, gguf_files.tensors(model, arch)
        gguf_files.write(root / name / "m.gguf", values, tensors, arch, **options)
        found[name] = Written(Model(_logits(root / name), gguf_reference.read), arch, values, tensors, options)
    return found


def _first(folder: Path) -> Path:
    return next(iter(sorted(folder.glob("*.gguf"))), folder / "m.gguf")


def _logits(folder: Path) -> Tensor:
    with _cache():
        return logits(_first(folder))


def _judge(folder: Path, base: Written) -> tuple[str, str]:
    with _cache():
        return judge(_first(folder), base.model)


@contextmanager
def _cache() -> Iterator[None]:
    """An empty one for converted files."""
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()):
        patch.setenv("STRATA_CACHE", place)
        yield


def _value(rng: Random, folder: Path, base: Written) -> str:
    values = dict(base.values)
    key = rng.choice(list(values)) if rng.random() < 0.7 else f"{base.arch}.{rng.choice(KEYS)}"
    made = None if rng.random() < 0.15 else other(rng, values.get(key))
    if isinstance(made, int) and type(made) is not bool and not 0 <= made < 2**32:
        made = 2**32 - 1
    if isinstance(made, str):
        made = made.encode("utf-8", "replace").decode()
    if (type(made) not in gguf_files.ADD and made is not None) or made == []:
        made = 1.5
    return _written(folder, base, values | {key: made}, base.tensors, f"{key} = {made!r}")


def _tensor(rng: Random, folder: Path, base: Written) -> str:
    tensors, name = dict(base.tensors), rng.choice(list(base.tensors))
    tensor = tensors.pop(name)
    there = [key for key in TENSORS if key not in tensors]
    change, made = rng.choice(
        [
            ("is gone", {}),
            ("is renamed", {rng.choice([*there, f"{name}x", name.replace("0", "9"), name.replace("blk", "block")]): tensor}),
            ("is doubled", {name: tensor, rng.choice(there): tensor}),
            ("is longer", {name: np.concatenate([tensor, tensor])}),
            ("is shorter", {name: tensor[: len(tensor) // 2]}),
            ("is flat", {name: tensor.reshape(-1)}),
            ("has an axis more", {name: tensor[None]}),
            ("is of 16 bits", {name: tensor.astype(np.float16)}),
            ("is of integers", {name: tensor.astype(np.int32)}),
        ]
    )
    return _written(folder, base, base.values, tensors | made, f"{name} {change} {list(made)}")


def _written(folder: Path, base: Written, values: dict[str, Any], tensors: dict[str, np.ndarray], said: str) -> str:
    for path in folder.glob("*.gguf"):
        path.unlink()
    try:
        gguf_files.write(folder / "m.gguf", values, tensors, base.arch, **base.options)
    except Exception as error:  # the writer refuses what it cannot write
        return f"{said}: not written ({error!r})"
    return said


def _bytes(rng: Random, folder: Path, base: Written) -> str:
    path = rng.choice(sorted(folder.glob("*.gguf")))
    data = path.read_bytes()
    changed, said = raw(rng, data, 0, gguf.GGUFReader(path).data_offset)
    path.write_bytes(changed)
    return f"{path.name}: {said}"


def _parts(rng: Random, folder: Path, base: Written) -> str:
    paths = sorted(folder.glob("*.gguf"))
    path, data = rng.choice(paths), rng.choice(paths).read_bytes()
    name = rng.choice(["gone", "another", "renamed", "short"])
    if name == "another":
        path.write_bytes(data)
    elif name == "short":
        path.write_bytes(data[: rng.randrange(len(data))])
    elif name == "renamed":
        path.rename(path.with_name(rng.choice(["m-00009-of-00003.gguf", "m-00001-of-00002.gguf", "x.gguf", "m-00001-of-99999.gguf"])))
    else:
        path.unlink()
    return f"{path.name} is {name}"


CHANGES: tuple[Callable[[Random, Path, Written], str], ...] = (_value, _value, _tensor, _bytes, _bytes, _parts)


def _mutate(rng: Random, folder: Path, base: Written) -> str:
    return rng.choice(CHANGES)(rng, folder, base)


KIND = Kind(_make, _mutate, _judge)
