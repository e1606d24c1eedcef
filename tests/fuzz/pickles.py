"""Weights that torch.save wrote: the pickle, the zip around it, and tensors of every form. Nothing in them may run."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

from tests.fuzz.core import Kind
from tests.fuzz.models import judge, make
from tests.fuzz.mutations import raw
from tests.fuzz.verdicts import Wrong
from tests.fuzz.weights import names
from tests.reference.rwkv_checkpoints import VERSIONS

RAN = "ran"  # a file that code in a pickle would leave behind


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple:
        return Path.touch, (self.place / RAN,)


Weights = dict[Any, Any]
FORMS: dict[str, Callable[[torch.Tensor], object]] = {  # of one tensor
    "int32": lambda t: t.to(torch.int32),
    "bool": lambda t: t.to(torch.bool),
    "complex": lambda t: t.to(torch.complex64),
    "double": lambda t: t.double(),
    "sparse": lambda t: t.to_sparse(),
    "meta": lambda t: t.to("meta"),
    "parameter": torch.nn.Parameter,
    "empty": lambda t: t[..., :0],
    "an axis more": lambda t: t[None],
    "one number": lambda t: torch.zeros(1).expand(t.shape),
    "a trillion numbers": lambda t: torch.zeros(1).expand(10**12),
    "strided": lambda t: torch.stack([t, t], -1)[..., 0],
    "nested": lambda t: torch.nested.nested_tensor([t.flatten(), t.flatten()[:1]]),
    "half": lambda t: t.flatten()[: max(1, t.numel() // 2)],
    "a list": lambda t: t.flatten()[:3].tolist(),
    "none": lambda t: None,
}
TABLES: dict[str, Callable[[Random, Weights, str], object]] = {  # of the whole state dict
    "a number as key": lambda rng, w, k: w | {7: w[k]},
    "gone": lambda rng, w, k: {key: t for key, t in w.items() if key != k},
    "renamed": lambda rng, w, k: {names(rng, key) if key == k else key: t for key, t in w.items()},
    "prefixed": lambda rng, w, k: {"module." + key: t for key, t in w.items()},
    "inside": lambda rng, w, k: {rng.choice(["model", "state_dict", "module", "foo"]): w, "step": 3},
    "a state": lambda rng, w, k: {"blocks.0.att.time_state": torch.zeros(2, 4)},
    "an adapter": lambda rng, w, k: w | {f"{k}.lora_A": torch.zeros(2, 3), f"{k}.lora_B": torch.zeros(2, 3)},
    "a list": lambda rng, w, k: list(w.values()),
    "a tensor": lambda rng, w, k: w[k],
    "something else": lambda rng, w, k: rng.choice([3, None, {}, {"a": {"b": {}}}, "x"]),
    "huge": lambda rng, w, k: {key: torch.zeros(1).expand(10**6, 10**6) if t.dim() == 2 else t for key, t in w.items()},
    "a million blocks": lambda rng, w, k: w | {f"blocks.{10 ** rng.randrange(3, 12)}.att.output.weight": torch.zeros(2, 2)},
}


def _file(folder: Path) -> Path:
    return next(path for path in sorted(folder.iterdir()) if path.suffix in (".pth", ".bin"))


def _mutate(rng: Random, folder: Path, base: Any) -> str:
    path = _file(folder)
    draw = rng.random()
    if draw < 0.35:
        return _bytes(rng, path)
    weights = torch.load(path, weights_only=True)
    key = rng.choice(sorted(weights))
    if draw < 0.4:
        torch.save(weights | {rng.choice([key, "x"]): Evil(folder)}, path)
        return f"code for {key}"
    name = rng.choice([*FORMS, *TABLES])
    torch.save(weights | {key: FORMS[name](weights[key])} if name in FORMS else TABLES[name](rng, weights, key), path)
    return f"{key}: {name}"


def _bytes(rng: Random, path: Path) -> str:
    """Changes outside of the weights: those in them make another model."""
    data = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        whole = [(info.header_offset, info.file_size) for info in file.infolist() if "/data/" not in info.filename]
    first, size = rng.choice(whole)
    if rng.random() < 0.4:  # the table of contents at the end of the zip
        first, size = data.rindex(b"PK\x05\x06") - 500, 500
    changed, said = raw(rng, data, max(first, 0), min(len(data), first + size + 60))
    path.write_bytes(changed)
    return said


def _judge(folder: Path, base: Any) -> tuple[str, str]:
    try:
        return judge(folder, base)
    finally:
        if (folder / RAN).exists():
            raise Wrong("code in the file has run")


KIND = Kind(lambda root: make(root, ["llama-bin", *(f"rwkv-{version}" for version in VERSIONS)]), _mutate, _judge)
