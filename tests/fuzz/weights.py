"""Headers and indexes of safetensors: keys, shapes, types and places, and which file holds what. Weights themselves stay."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.core import Kind
from tests.fuzz.models import judge, make
from tests.fuzz.mutations import json_file, other, raw

TYPES = "F32 F16 BF16 F64 I32 I64 I8 U8 BOOL C64 F8_E4M3 F8_E5M2 U32 U16 F4 XX".split()
PREFIXES = ("module.", "_orig_mod.", "model.", "base_model.model.", "transformer.", "lora_A.")
BASES = ["llama", "llama-tied", "llama-sharded", "qwen2", "baichuan2-13b", "rwkv-4-safetensors", "rwkv-7-safetensors", "rwkv-fla"]
Header = dict[str, Any]


def names(rng: Random, key: str) -> str:
    """Another name for a key."""
    digits = {"0": rng.choice(["999999999", "5", "9" * 5000, "\u0660", "00", "-1"]), "1": rng.choice(["5", "1.0", ""])}
    return rng.choice(
        [
            f"{key}x",
            key[:-1],
            "",
            f"{key}\n\x1b[31m",
            rng.choice(PREFIXES) + key,
            key.partition(".")[2],
            key.upper(),
            *(key.replace(*pair, 1) for pair in digits.items()),
        ]
    )


def _type(rng: Random, header: Header, key: str) -> None:
    header[key]["dtype"] = rng.choice([*TYPES, None, 3])


def _all_types(rng: Random, header: Header, key: str) -> None:
    name = rng.choice(TYPES)
    for entry in header.values():
        entry["dtype"] = name


def _shape(rng: Random, header: Header, key: str) -> None:
    shape = header[key]["shape"]
    header[key]["shape"] = rng.choice([other(rng, shape), shape[::-1], [0], [1, *shape], [-n for n in shape], [2**40, 2**40], [*shape, 1]])


def _offsets(rng: Random, header: Header, key: str) -> None:
    header[key]["data_offsets"] = other(rng, header[key]["data_offsets"])


def _gone(rng: Random, header: Header, key: str) -> None:
    del header[key]


def _renamed(rng: Random, header: Header, key: str) -> None:
    header[names(rng, key)] = header.pop(key)


def _prefixed(rng: Random, header: Header, key: str) -> None:
    entries = dict(header)
    header.clear()
    header |= {rng.choice(PREFIXES[:3]) + name: entry for name, entry in entries.items()}


def _stripped(rng: Random, header: Header, key: str) -> None:
    prefix, entries = key.partition(".")[0] + ".", dict(header)
    header.clear()
    header |= {name.removeprefix(prefix): entry for name, entry in entries.items()}


def _entry(rng: Random, header: Header, key: str) -> None:
    header[key] = other(rng, header[key])


HEADERS: dict[str, Callable[[Random, Header, str], None]] = {
    "type": _type, "all types": _all_types, "shape": _shape, "offsets": _offsets, "gone": _gone, "renamed": _renamed,
    "all prefixed": _prefixed, "all stripped": _stripped, "entry": _entry,
}  # fmt: skip


def header(rng: Random, path: Path) -> str:
    """Another header in front of the same bytes."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    if rng.random() < 0.25:
        changed, said = raw(rng, data, 0, 8 + size)
        path.write_bytes(changed)
        return f"{path.name}: {said}"
    found = json.loads(data[8 : 8 + size])
    about = found.pop("__metadata__", {"format": "pt"})
    key, name = rng.choice(sorted(found)), rng.choice(list(HEADERS))
    HEADERS[name](rng, found, key)
    if rng.random() < 0.05:
        about = other(rng, about)
    text = json.dumps({"__metadata__": about, **found}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    return f"{path.name}: {key} {name}"


def index(rng: Random, path: Path) -> str:
    """Another index, another table of files, or other files."""
    shards = sorted(path.parent.glob("*.safetensors"))
    found = json.loads(path.read_text())
    table = found["weight_map"]
    key, file = rng.choice(sorted(table)), rng.choice(shards)
    name = rng.choice(["value", "moved", "a file unnamed", "gone", "gone with a file", "gone, a file twice", "a file twice", "a file gone"])
    if name == "value":
        return json_file(rng, path)
    if name == "moved":
        table[key] = rng.choice([file.name, "../x.safetensors", "/etc/passwd", "config.json", "", f"./{file.name}"])
    if name == "a file unnamed":
        found["weight_map"] = {k: v for k, v in table.items() if v != file.name}
    path.write_text(json.dumps(found))
    if name.startswith("gone"):
        path.unlink()
    if name.endswith("twice"):
        shutil.copy(file, file.with_name("model-x.safetensors"))
    if name.endswith(("with a file", "file gone")):
        file.unlink()
    return f"the index: {name} ({key}, {file.name})"


def _mutate(rng: Random, folder: Path, base: Any) -> str:
    files, indexes = sorted(folder.glob("*.safetensors")), list(folder.glob("*.index.json"))
    return index(rng, indexes[0]) if indexes and rng.random() < 0.6 else header(rng, rng.choice(files))


KIND = Kind(lambda root: make(root, [*BASES, "rwkv-hugging-face", "gptq"]), _mutate, judge)
