"""Parts taken out of a checkpoint: blocks and experts are deleted, heads too where a stock loader holds what is left; what
else gives is zero.

A loader holds blocks of one shape. Zeros hold whatever is out: a part adds nothing where its output projection is zero, a head where
its columns of it are, in weights of the same shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapters.ablation import Ablation
from adapters.action import Action
from adapters.base import BlockModel
from adapters.block import Block
from adapters.checkpoints.configs import stock_config
from adapters.checkpoints.export import Source, remaining, remove_blocks
from adapters.errors import StrataError, unknown
from adapters.roles import ROLES
from analysis.removal.delete_heads import delete_heads

CUTS = ("auto", "delete", "zero")
GROUPED = "num_key_value_heads"
DECI = (
    "vLLM, llama.cpp and others read blocks like Llama's that lack a part, or have heads of their own number, as DeciLM (Nemotron-NAS); "
    "no file of it is written here"
)

ELSE = f"give `cut` zero, which every loader holds; {DECI}"


class Cut(NamedTuple):
    """A model without some of its parts, as its checkpoint is read."""

    model: BlockModel
    changed: Mapping[str, Tensor]  # new weights, by key in the new checkpoint
    config: Mapping[str, Any]  # what its config.json then says
    zeroed: bool  # heads, mixers or ffns that are out are zeros in its files


def cut(model: BlockModel, source: Source, out: Ablation, how: str = "auto") -> Cut:
    """`model` without `out`: heads are deleted, or their columns zero, as `how` says; `auto` deletes where a stock loader holds the rest.

    Raises StrataError where heads or sub-layers are to be deleted that no stock loader can do without, and naming one that could;
    on quantised weights, on weights that `model` holds in less than its files do, and on means, which no file leaves behind.
    """
    out = out.canonical(model.spec)
    kept = remaining(model.spec, out.blocks)
    require_cut(model, how, out.parts)
    if out.edit != "zero":
        raise StrataError(f"{out} leaves means behind, and a checkpoint has no place for them: take the edit zero")
    source.staying(kept, out.experts)
    left = remove_blocks(model, out.blocks, out.experts)
    actions = [out.actions(model.spec)[i] for i in kept]
    if not (out.heads or out.mixers or out.ffns):
        return Cut(left, {}, {}, False)
    reason = _undeletable(model, source, out, left, actions)
    if how == "delete" and reason:
        raise StrataError(f"{reason}: {ELSE}")
    zero = how == "zero" or bool(reason)
    made = left.with_blocks([(_zeroed if zero else _deleted)(block, action) for block, action in zip(left.blocks, actions, strict=True)])
    changed = _changed(source, model, left, made, kept)
    return Cut(made, changed, {} if zero else _head_config(source, made), zero)


def require_cut(model: BlockModel, how: str, kinds: Iterable[str]) -> None:
    """Raises StrataError on an unknown way to cut, and where parts of these kinds cannot go in it whichever they are."""
    if how not in CUTS:
        raise unknown("cut", how, CUTS)
    kinds, name = set(kinds) - {"blocks", "experts"}, model.spec.name
    if kinds and model.spec.quantised:
        raise StrataError(
            f"heads, mixers and ffns are cut out of float weights, and those of {name} are quantised ({model.spec.quantised}): "
            "cut the model that it was made from, and quantise the result"
        )
    if how == "delete" and kinds & {"mixers", "ffns"}:
        raise StrataError(f"no stock loader holds {name} with blocks that lack a mixer or an ffn: {ELSE}")


def _zeroed(block: Block, action: Action) -> Block:
    """The block of the same shapes in which what is out gives nothing."""
    new = {}
    for role, t in block.weights.items():
        about = ROLES[role]
        if about.output and not (action.mixer if about.part == "mixer" else action.ffn):
            new[role] = torch.zeros_like(t)
        elif about.output and about.heads is not None and action.heads:
            pieces = t.unflatten(about.heads, (block.spec.n_heads or 1, -1)).clone()
            out = torch.tensor(sorted(action.heads), device=t.device)
            new[role] = pieces.index_fill_(about.heads, out, 0).flatten(about.heads, about.heads + 1)
    return block.with_weights(block.weights | new) if new else block


def _deleted(block: Block, action: Action) -> Block:
    return delete_heads(block, action.heads) if action.heads else block


def _undeletable(model: BlockModel, source: Source, out: Ablation, left: BlockModel, actions: Iterable[Action]) -> str:
    """Why a stock loader does not hold the model without the parts of `out` in it; empty where it does."""
    if out.mixers or out.ffns:
        return "no stock loader holds blocks that lack a mixer or an ffn"
    counts = [(block.spec.n_heads or 0) - len(action.heads) for block, action in zip(left.blocks, actions, strict=True)]
    if len(set(counts)) > 1 or not counts[0]:
        return (
            f"stock loaders hold as many heads in each block, and {', '.join(map(str, counts))} would be left in those of {model.spec.name}"
        )
    try:
        made = left.with_blocks([_deleted(block, action) for block, action in zip(left.blocks, actions, strict=True)])
    except StrataError as error:
        return str(error)
    if len({block.spec.n_kv_heads for block in made.blocks}) > 1 or made.blocks[0].spec.n_kv_heads is None:
        return f"stock loaders hold groups of as many heads, and those that would be left in {model.spec.name} are unequal"
    own = [{role: t for role, t in block.weights.items() if ROLES[role].part == "mixer"} for block in made.blocks]  # where heads are
    shapes = {key: tuple(t.shape) for key, t in _layout(source, made).write({}, own).items()}
    apart = any(slot.in_rows for role, slot in source.layout.block.items() if role in own[0])
    if apart or not _held(dict(source.config) | _head_config(source, made), shapes):
        return f"transformers cannot hold {model.spec.name} with {counts[0]} heads in each block"
    return ""


def _held(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether transformers makes weights of these shapes of a config.json; it knows no block by its number here."""
    from transformers import AutoModelForCausalLM

    try:
        if (stock := stock_config(config)) is None:
            return False
        with torch.device("meta"):
            theirs = AutoModelForCausalLM.from_config(stock, trust_remote_code=False).state_dict()
    except Exception:  # whatever a configuration or a model raises of sizes that it does not expect
        return False
    return all(key in theirs and tuple(theirs[key].shape) == shape for key, shape in shapes.items())


def _head_config(source: Source, made: BlockModel) -> dict[str, Any]:
    """What config.json says of heads, all blocks having as many, where transformers knows the model."""
    if (stock := stock_config(source.config)) is None:
        return {}
    spec = made.blocks[0].spec
    sizes = {"num_attention_heads": spec.n_heads, GROUPED: spec.n_kv_heads, "head_dim": spec.head_dim}
    if not hasattr(stock, GROUPED):
        del sizes[GROUPED]
    return {stock.attribute_map.get(key, key): size for key, size in sizes.items()}


def _layout(source: Source, made: BlockModel) -> Any:
    return replace(source.layout, groups=made.blocks[0].spec.n_kv_heads or source.layout.groups)


def _changed(source: Source, model: BlockModel, left: BlockModel, made: BlockModel, kept: list[int]) -> dict[str, Tensor]:
    """Weights that are new, by new key, in the dtype of the files. Raises StrataError where the model holds them in less."""
    new = [
        {role: t for role, t in block.weights.items() if t is not before.weights.get(role)}
        for block, before in zip(made.blocks, left.blocks, strict=True)
    ]
    old: list[dict[str, Tensor]] = [{} for _ in model.blocks]
    for i, roles in zip(kept, new, strict=True):
        old[i] = roles
    layout = _layout(source, made)
    found = {}
    for (key, tensor), before in zip(layout.write({}, new).items(), layout.write({}, old), strict=True):
        stored = source.store.read(before).dtype
        if torch.promote_types(stored, model.dtype) != model.dtype:
            held, files = (str(dtype).removeprefix("torch.") for dtype in (model.dtype, stored))
            raise StrataError(f"{model.spec.name} is loaded in {held}, which rounds the {files} of its files: give `dtype` float32")
        found[key] = tensor.to(stored).cpu()
    return found
