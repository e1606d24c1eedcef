"""Files of weights and JSON that others wrote: opened as tensors by key, or refused with the cause. Nothing in them is run."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from adapters.checkpoints.layout import Store
from adapters.errors import StrataError, one_line

CONTENTS = {  # first bytes of files that are not what their name says -> what they are, and what to do
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself: run `git lfs pull`, or download it from the hub",
    b"<": "is a web page, not a file of a model; download it again",
    b"GGUF": "is a GGUF file by its content: give it a name that ends in .gguf",
}
WRAPPED = {  # parts of keys that no model has -> what they say about the file
    "lora_A": "it is a LoRA adapter: merge it into its base (peft: merge_and_unload, then save_pretrained) and give that",
    "time_state": "it holds a tuned initial state of RWKV, which is not supported: give the model without it",
    "_orig_mod": "its keys begin with _orig_mod., which torch.compile adds: save the state dict of model._orig_mod",
    "_fsdp_wrapped_module": "its keys hold _fsdp_wrapped_module., which FSDP adds: save a full state dict",
    "module": "its keys begin with module., which DistributedDataParallel adds: save the state dict of model.module",
}
SAFE_DTYPES = {  # of safetensors
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool, "U8": torch.uint8,
    "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
NESTED = ("state_dict", "model", "module", "model_state_dict")  # where training checkpoints hold the weights


class Entry(NamedTuple):
    """A tensor of a file."""

    shape: tuple[int, ...]
    nbytes: int
    read: Callable[[], Tensor]


class Place(NamedTuple):
    """Where the bytes of a tensor stand."""

    path: Path
    offset: int
    nbytes: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None = None  # None: without gaps

    def tensor(self, buffer: Tensor) -> Tensor:
        """Of its bytes."""
        flat = buffer.view(self.dtype)
        return flat.reshape(self.shape) if self.stride is None else flat.as_strided(self.shape, self.stride)


def open_store(path: Path) -> Store:
    """The checkpoint at `path`: a folder (sharded or not, safetensors before .bin) or one .safetensors, .bin or .pth file.

    Raises StrataError when it is not complete, not plain tensors, ambiguous, or changed by an adapter that lies beside it.
    """
    if path.is_file():
        return _join(path, [path])
    _refuse_adapter(path)
    for whole in ("model.safetensors", "pytorch_model.bin"):  # the order of Hugging Face; other tensors may lie beside them
        index = f"{whole}.index.json"
        if (path / whole).is_file():
            return _join(path, [path / whole])
        if (path / index).is_file():
            shards = read_json(path / index).get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise StrataError(f"{path / index} has no weight_map; download it again")
            return _join(path, [_inside(path, name) for name in sorted(set(map(str, shards.values())))])
    files = sorted(path.glob("*.safetensors")) or sorted(path.glob("pytorch_model*.bin")) or sorted(path.glob("*.pth"))
    if not files:
        raise StrataError(f"{path} holds no weights: expected *.safetensors, pytorch_model*.bin or a .pth file")
    if files[0].suffix == ".pth" and len(files) > 1:
        names = ", ".join(file.name for file in files[:3])
        raise StrataError(f"{path} holds {len(files)} models ({names}): give the path of one file")
    return _join(path, files)


def read_json(path: Path) -> dict:
    """The object in a JSON file. Raises StrataError when there is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StrataError(f"{path} is missing: a model folder needs it beside its weights") from None
    except (ValueError, OSError, RecursionError) as error:
        raise _unreadable(path, f"is not readable JSON: {one_line(error)}; download it again") from error
    if not isinstance(data, dict):
        raise StrataError(f"{path} is not a JSON object; download it again")
    return data


def _refuse_adapter(folder: Path) -> None:
    """transformers applies what adapter_config.json describes to the weights beside it, or to those of its base."""
    if not (folder / "adapter_config.json").is_file():
        return
    base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    merge = "merge it (peft: merge_and_unload, then save_pretrained) and give the folder of the result"
    if (folder / "config.json").is_file():
        raise StrataError(
            f"{folder} holds a PEFT adapter beside its weights: {merge}, or move adapter_config.json away to read the base alone"
        )
    raise StrataError(f"{folder} is a PEFT adapter of {base!r}, not a model: {merge}")


def _inside(folder: Path, name: str) -> Path:
    """A shard named by an index file, refused when it points out of the folder."""
    path = folder / name
    if Path(name).name != name:
        raise StrataError(f"{folder}: the index names the shard {name!r}, which is not a plain file name")
    if not path.is_file():
        raise StrataError(f"{folder} lacks the shard {name} that its index names; download it again")
    return path


def _join(path: Path, files: list[Path]) -> Store:
    entries: dict[str, Entry] = {}
    for file in files:
        found = (_safetensors if file.suffix == ".safetensors" else _pickled)(file)
        if twice := sorted(entries.keys() & found.keys()):
            raise StrataError(
                f"{path}: {twice[0]} is in {file.name} and in a file before it ({', '.join(f.name for f in files[:3])}), and nothing says "
                "which counts: leave the files of one model there, or give the path of one"
            )
        entries |= found
    parts = {part for key in entries for part in key.split(".")}
    if sign := next((sign for sign in WRAPPED if sign in parts), None):
        raise StrataError(f"{path} is not a plain model: {WRAPPED[sign]}")
    if "embed_tokens.weight" in entries:  # saved from the model without its head: transformers reads that as well
        entries = {key if key.startswith("lm_head.") else f"model.{key}": entry for key, entry in entries.items()}
    shapes, sizes = {key: e.shape for key, e in entries.items()}, {key: e.nbytes for key, e in entries.items()}
    return Store(path, shapes, lambda key: entries[key].read(), files=tuple(files), sizes=sizes)


def _safetensors(path: Path) -> dict[str, Entry]:
    try:
        handle = safe_open(path, framework="pt")
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        ends = {key: header[key]["data_offsets"] for key in handle.keys()}  # noqa: SIM118 - it is no dict
        shapes = {key: tuple(handle.get_slice(key).get_shape()) for key in ends}
        return {key: Entry(shapes[key], end - start, partial(handle.get_tensor, key)) for key, (start, end) in ends.items()}
    except Exception as error:
        raise _unreadable(path, f"is truncated or corrupt ({one_line(error)}); download it again") from error


def places(path: Path) -> dict[str, Place]:
    """Of every tensor of a file that `open_store` has opened. Raises StrataError where there are none that can be read alone."""
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        return {
            key: Place(path, 8 + size + found["data_offsets"][0], found["data_offsets"][1] - found["data_offsets"][0],
                       SAFE_DTYPES[found["dtype"]], tuple(found["shape"]))
            for key, found in header.items()
        }  # fmt: skip
    if not zipfile.is_zipfile(path):
        raise StrataError(f"{path} is of torch before version 1.6, whose weights cannot be streamed: save it as safetensors")
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes a second

    with FakeTensorMode():
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    return {key: _place(path, t) for key, t in tensors.items()}


def _place(path: Path, tensor: Tensor) -> Place:
    """Of a tensor without numbers, which a file was read as: from its first number to its last."""
    numbers = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True)) if tensor.numel() else 0
    storage: Any = tensor.untyped_storage()  # which torch leaves a note of its place with
    offset = storage._checkpoint_offset + int(tensor.storage_offset()) * tensor.itemsize
    stride = None if tensor.is_contiguous() else tensor.stride()
    return Place(path, offset, numbers * tensor.itemsize, tensor.dtype, tuple(tensor.shape), stride)


def _pickled(path: Path) -> dict[str, Entry]:
    try:
        zipped = zipfile.is_zipfile(path)  # as torch has written since version 1.6
        if not zipped and not _is_pickle(path):
            raise ValueError("it is neither a zip file nor a pickle")
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise StrataError(f"{path} holds more than tensors and is not opened (a pickle can run code): convert it to safetensors") from error
    except Exception as error:
        raise _unreadable(path, f"is truncated or corrupt ({one_line(error)}); download it again") from error
    if not isinstance(tensors, dict):
        raise StrataError(f"{path} is not a table of tensors: expected a state dict")
    for key, tensor in tensors.items():
        _require_tensor(path, key, tensor)
    return {key: Entry(tuple(t.shape), t.nbytes, t.detach) for key, t in tensors.items()}


def _require_tensor(path: Path, key: object, tensor: object) -> None:
    """Raises StrataError unless an entry of a state dict is a name and a plain tensor that holds every one of its numbers."""
    if isinstance(tensor, dict) and key in NESTED:
        raise StrataError(f"{path} is a checkpoint of a training run: save what it holds under {key!r} alone, as a state dict")
    if not isinstance(key, str) or not isinstance(tensor, Tensor):
        raise StrataError(
            f"{path} is not a table of tensors ({key!r} is {type(tensor).__name__}): expected a state dict with names as keys"
        )
    plain = tensor.layout == torch.strided and not tensor.is_nested and tensor.device.type == "cpu" and not tensor.is_quantized
    kind = (
        "has fewer numbers than its shape says"
        if plain
        else f"is not a plain tensor ({tensor.layout}, {tensor.device.type}, {tensor.dtype})"
    )
    if not plain or tensor.untyped_storage().nbytes() < tensor.nbytes:
        raise StrataError(f"{path}: {key} {kind}: save it as .contiguous() tensors on the CPU")


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == pickle.PROTO


def _unreadable(path: Path, otherwise: str) -> StrataError:
    """What the first bytes of a file say it is, where that is not what its name says."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        return StrataError(f"{path} cannot be opened: {error.strerror}; change its permissions, or download it again")
    said = next(
        (what for magic, what in CONTENTS.items() if start.startswith(magic)), otherwise if start else "is empty; download it again"
    )
    return StrataError(f"{path} {said}")
