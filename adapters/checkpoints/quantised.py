"""Quantised checkpoints as float weights, so that everything works on them: GPTQ files, and what llmcompressor writes.

A weight (rows out, columns in) is (code - zero) * scale, where each row has one zero and one scale for every group of
columns. Weights are made when they are read, in fp32, from safetensors alone; what runs is a float model with the loss
of the quantised one.

GPTQ (Frantar et al., arXiv 2210.17323, files of AutoGPTQ and GPTQModel): `qweight` (in / 8, out) holds eight codes of 4 bits
in an int32, `qzeros` (groups, out / 8) their zeros, in version 1 less one, `scales` (groups, out), `g_idx` (in,) the group
of each column. compressed-tensors, `pack-quantized`: `weight_packed` (out, in / 8), `weight_scale` (out, groups),
`weight_zero_point` (out / 8, groups) where codes are not symmetric, `weight_g_idx` where columns were reordered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapters.checkpoints.files import read_json
from adapters.checkpoints.layout import Store
from adapters.errors import StrataError
from adapters.specs import ModelSpec

WORD = 32  # bits of the integers that codes are packed into
BITS = (4, 8)
VERSIONS = {"gptq": 1, "gptq_v2": 0}  # checkpoint_format -> what was subtracted from zeros
READ = f"only GPTQ and pack-quantized compressed-tensors weights of {' or '.join(map(str, BITS))} bits are read"


@dataclass(frozen=True, slots=True)
class Packed:
    """One quantised weight, on its way to floats."""

    codes: Tensor  # (out, in), unsigned
    zeros: Tensor  # (out, groups), or one number for all
    scales: Tensor  # (out, groups)
    group: Tensor  # (in,)

    def floats(self) -> Tensor:
        """(out, in) in fp32, where a product of a small integer and a scale of 16 bits is exact."""
        zeros = self.zeros if self.zeros.dim() == 0 else self.zeros[:, self.group]
        return (self.codes - zeros).float() * self.scales.float()[:, self.group]


@dataclass(frozen=True, slots=True)
class Format:
    """How files of one kind say what they hold."""

    key: str  # ending of the key that holds the codes
    axes: Mapping[str, int]  # of every tensor that a weight can have, by the ending of its key
    needs: Callable[[Mapping[str, Any]], Sequence[str]]  # quantization_config -> endings of those that must be there beside the codes
    said: Callable[[Mapping[str, Any], str], str]  # quantization_config, name of the model -> bits and groups in words
    shape: Callable[[Store, str, Mapping[str, Any]], tuple[int, int]]  # of the float weight
    read: Callable[[Store, str, Mapping[str, Any]], Packed]


def unpack(words: Tensor, bits: int) -> Tensor:
    """int32 (rows, n) -> unsigned codes (rows, n * 32 / bits); the lowest bits come first."""
    shifts = torch.arange(0, WORD, bits, dtype=torch.int32)
    return ((words[..., None] >> shifts) & ((1 << bits) - 1)).flatten(-2)


def _gptq_needs(config: Mapping[str, Any]) -> list[str]:
    """Groups are even unless columns were taken out of their order."""
    reordered = config.get("desc_act") and (config.get("group_size") or -1) > 0
    return [".qzeros", ".scales", *([".g_idx"] if reordered else [])]


def _gptq_said(config: Mapping[str, Any], name: str) -> str:
    bits, version = config.get("bits"), config.get("checkpoint_format") or "gptq"
    if bits not in BITS or version not in VERSIONS or config.get("dynamic"):
        found = "bits that differ from layer to layer" if config.get("dynamic") else f"{bits} bits, {version}"
        raise StrataError(f"{name} is quantised (gptq, {found}): {READ}; use the checkpoint it was made from")
    return _words(bits, config.get("group_size", -1))


def _gptq_shape(store: Store, stem: str, config: Mapping[str, Any]) -> tuple[int, int]:
    rows, out = store.shapes[f"{stem}.qweight"]
    return out, rows * WORD // config["bits"]


def _gptq_read(store: Store, stem: str, config: Mapping[str, Any]) -> Packed:
    """Zeros of version 1 are less one as whole int32, which is how they were packed: a zero of 0 borrows from its neighbour."""
    bits, read = config["bits"], store.read
    one_in_each = VERSIONS[config.get("checkpoint_format") or "gptq"] * sum(1 << shift for shift in range(0, WORD, bits))
    scales, codes = read(f"{stem}.scales"), unpack(read(f"{stem}.qweight").T, bits)
    index = f"{stem}.g_idx"
    group = read(index).long() if index in store.shapes else _even(codes.shape[1], scales.shape[0], stem)
    return Packed(codes, unpack(read(f"{stem}.qzeros") + one_in_each, bits).T, scales.T, group)


def _packed_needs(config: Mapping[str, Any]) -> list[str]:
    """What layers do not have in common cannot be asked of all."""
    weights = [scheme["weights"] for scheme in config["config_groups"].values()]
    uneven = all(w.get("actorder") in ("group", "dynamic", True) for w in weights)
    zeros = not any(w.get("symmetric", True) for w in weights)
    return [".weight_scale", ".weight_shape", *([".weight_zero_point"] if zeros else []), *([".weight_g_idx"] if uneven else [])]


def _packed_said(config: Mapping[str, Any], name: str) -> str:
    schemes, format = config.get("config_groups") or {}, config.get("format")
    weights = [scheme.get("weights") or {} for scheme in schemes.values()]
    activations = [side for scheme in schemes.values() for side in ("input_activations", "output_activations") if scheme.get(side)]
    known = [w for w in weights if w.get("num_bits") in BITS and w.get("type", "int") == "int"]
    if format != "pack-quantized" or activations or config.get("kv_cache_scheme") or not weights or known != weights:
        found = "activations too" if activations else format
        raise StrataError(f"{name} is quantised (compressed-tensors, {found}): {READ}; use the checkpoint it was made from")
    return " and ".join(sorted({_words(w["num_bits"], w.get("group_size") or -1) for w in weights}))


def _packed_shape(store: Store, stem: str, config: Mapping[str, Any]) -> tuple[int, int]:
    rows, columns = store.read(f"{stem}.weight_shape").tolist()
    return rows, columns


def _packed_read(store: Store, stem: str, config: Mapping[str, Any]) -> Packed:
    """Bits and groups are those that the shapes say: layers may differ."""
    read, (out, columns) = store.read, _packed_shape(store, stem, config)
    words, scales = read(f"{stem}.weight_packed"), read(f"{stem}.weight_scale")
    bits = words.shape[1] * WORD // columns
    if bits not in BITS:
        raise StrataError(f"{store.path}: {stem} has {bits} bits: {READ}")
    zero, index = f"{stem}.weight_zero_point", f"{stem}.weight_g_idx"
    middle = torch.tensor(1 << (bits - 1), dtype=torch.int32)
    zeros = unpack(read(zero).T, bits)[:, :out].T if zero in store.shapes else middle
    group = read(index).long() if index in store.shapes else _even(columns, scales.shape[1], stem)
    return Packed(unpack(words, bits)[:, :columns], zeros, scales, group)


FORMATS = {
    "gptq": Format(".qweight", {".qweight": 2, ".qzeros": 2, ".scales": 2, ".g_idx": 1}, _gptq_needs, _gptq_said, _gptq_shape, _gptq_read),
    "compressed-tensors": Format(
        ".weight_packed",
        {".weight_packed": 2, ".weight_scale": 2, ".weight_shape": 1, ".weight_zero_point": 2, ".weight_g_idx": 1},
        _packed_needs,
        _packed_said,
        _packed_shape,
        _packed_read,
    ),
}
ENDINGS = tuple(ending for format in FORMATS.values() for ending in format.axes)


def config_of(config: Mapping[str, Any], folder: Path, store: Store) -> dict[str, Any]:
    """What a folder says of how its weights are quantised; empty: they are not.

    AutoGPTQ wrote a file of its own, which tools leave beside floats that they made of its codes. Raises StrataError on what is no
    description.
    """
    own = folder / "quantize_config.json"
    said = config.get("quantization_config")
    if said is None and own.is_file() and any(key.endswith(FORMATS["gptq"].key) for key in store.shapes):
        return {"quant_method": "gptq"} | read_json(own)
    if not isinstance(said, dict | None):
        raise StrataError(
            f"{folder}: quantization_config of config.json is {said!r}, expected an object: use the one that came with the weights"
        )
    return dict(said or {})


def as_floats(store: Store, config: Mapping[str, Any], name: str) -> Store:
    """A view of `store` that holds `X.weight` where the file holds packed codes; `config` is that of `config_of`.

    The view's hash is the file's. Raises StrataError on what is not read, on a part that is missing, and on parts that do not fit
    together.
    """
    method = str(config.get("quant_method") or "unknown")
    format = FORMATS.get(method)
    stems = {key.removesuffix(format.key) for key in store.shapes if key.endswith(format.key)} if format else set()
    if not format or not stems:
        found = f"{name} is quantised ({method}{', but its weights are not packed' if format else ''})"
        raise StrataError(f"{found}: {READ}; use the checkpoint it was made from")
    said = format.said(config, name)
    parts = {stem + ending for stem in stems for ending in format.axes}
    _require(store, stems, format.axes, format.needs(config))
    # Some writers of GPTQ files leave a bias of zeros beside every weight, whether the model has one or not.
    parts |= {bias for stem in stems if (bias := f"{stem}.bias") in store.shapes and not store.read(bias).any()}
    made = {f"{stem}.weight": stem for stem in stems}
    shapes = {key: shape for key, shape in store.shapes.items() if key not in parts}
    shapes |= {key: format.shape(store, stem, config) for key, stem in made.items()}

    def read(key: str) -> Tensor:
        return _checked(format.read(store, made[key], config), store, key).floats() if key in made else store.read(key)

    return Store(store.path, shapes, read, origin=store, quantised=f"{said} ({method})")


def require_floats(spec: ModelSpec, what: str) -> None:
    """Raises StrataError when the weights come from a quantised file; `what` computes with them."""
    if spec.quantised:
        raise StrataError(f"{what} computes with float weights, and {spec.name} has {spec.quantised}: use the model it was made from")


def _require(store: Store, stems: Iterable[str], axes: Mapping[str, int], needed: Sequence[str]) -> None:
    """Raises StrataError unless each weight has the parts `needed`, and every part as many axes as it should."""
    for stem in sorted(stems):
        shapes = {ending: store.shapes[stem + ending] for ending in axes if stem + ending in store.shapes}
        wrong = [f"{stem}{ending} is missing" for ending in needed if ending not in shapes]
        wrong += [
            f"{stem}{end} has axes {list(shape)}, expected {axes[end]} of them" for end, shape in shapes.items() if len(shape) != axes[end]
        ]
        if wrong:
            raise StrataError(f"{store.path}: {wrong[0]}; download it again, or use the checkpoint it was made from")


def _checked(weight: Packed, store: Store, key: str) -> Packed:
    rows, groups = weight.scales.shape
    fits = weight.codes.shape[0] == rows and weight.zeros.shape in ((), (rows, groups)) and len(weight.group) == weight.codes.shape[1]
    if not fits or not 0 <= int(weight.group.min()) <= int(weight.group.max()) < groups:
        raise StrataError(f"{store.path}: the codes, zeros, scales and groups of {key} do not fit together; download it again")
    return weight


def _even(columns: int, groups: int, stem: str) -> Tensor:
    """The group of each column (in,), all groups being of one size."""
    if columns % groups:
        raise StrataError(
            f"{stem} has {columns} columns in {groups} groups, which is not a whole number for each: groups must be of one size"
        )
    return torch.arange(columns) // (columns // groups)


def _words(bits: int, group_size: int) -> str:
    return f"{bits}-bit weights, {f'groups of {group_size}' if group_size > 0 else 'one group a row'}"
