"""RWKV-4 to 7 as a uniform list of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.base import BlockModel
from adapters.block import right_padded
from adapters.checkpoints.layout import Layout, Store
from adapters.errors import StrataError
from adapters.families.rwkv.blocks import RwkvBlock, RwkvContext
from adapters.families.rwkv.layouts import FLASH, V_FIRST, VALUE_RESIDUAL, detect
from adapters.families.rwkv.sizes import Sizes, block_shapes, measure, model_shapes
from adapters.families.rwkv.tokenizers import find_tokenizer
from adapters.roles import n_numbers, shapes_by_role, spec_of
from adapters.specs import ModelSpec

NORM_EPS, GROUP_NORM_EPS = 1e-5, 64e-5  # official; the second is 1e-5 times the square of the divisor 8 in training
LARGEST = torch.finfo(torch.float32).max
MAX_LEN = {"4": 1024}  # tokens of context in training, 4096 for later versions
_SIZES = {  # keys of config.json that the weights must agree with
    "hidden_size": "d_model",
    "attention_hidden_size": "d_model",
    "vocab_size": "vocab_size",
    "num_hidden_layers": "n_blocks",
    "intermediate_size": "d_ffn",
    "head_dim": "head_dim",
}


class RwkvModel(BlockModel):
    """`source` is the block whose values are RWKV-7's v_first: it stays the same when blocks are removed or reordered,
    so that removing block 0 takes out what it adds to the stream and nothing else; `rerooted` is the other reading."""

    def __init__(self, spec: ModelSpec, layout: Layout, weights: dict[str, Tensor], blocks: Sequence[RwkvBlock], norm_eps: float) -> None:
        self.spec, self.layout, self.weights, self.blocks, self.tokenizer = spec, layout, weights, list(blocks), None
        self.norm_eps, self.source = norm_eps, blocks[0]

    def begin(self, ids: Tensor, *, lengths: Tensor | None = None, start: Tensor | None = None) -> tuple[Tensor, RwkvContext]:
        """Embedding and ln0. `start` does not matter: nothing here knows positions, the past does it all."""
        x = self._norm(F.embedding(ids, self.weights["embed"]), "embed_norm")
        lengths = right_padded(ids, lengths)
        real = None if lengths is None else torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        v_first, v_carry = self.source.value(x, lengths) if self.spec.variant in V_FIRST else (None, None)
        return x, RwkvContext(documents=len(ids), lengths=lengths, real=real, v_first=v_first, v_carry=v_carry)

    def norm(self, x: Tensor) -> Tensor:
        return self._norm(x, "norm")

    def rerooted(self) -> RwkvModel:
        """The model whose first remaining block is the source of RWKV-7's v_first: its own value residual goes.

        What a pruned RWKV-7 must be saved as. Other versions have no such source and stay as they are.
        """
        first = self.blocks[0]
        if self.spec.variant not in V_FIRST or first is self.source:
            return self
        assert isinstance(first, RwkvBlock)
        weights = {role: t for role, t in first.weights.items() if role not in VALUE_RESIDUAL}
        root = replace(first, weights=weights, spec=spec_of(shapes_by_role(weights), first.spec.n_heads))
        other = self.with_blocks([root, *self.blocks[1:]])
        assert isinstance(other, RwkvModel)
        other.source = root
        return other

    def _norm(self, x: Tensor, role: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[role], self.weights[role + "_bias"], self.norm_eps)


def layout(config: dict, store: Store) -> Layout:
    """That of the checkpoint, by its keys. Raises StrataError, by name, on variants that are not supported."""
    return detect(store)[1]


def build(config: dict, store: Store, name: str) -> RwkvModel:
    """A model from a checkpoint whose keys tell its version and sizes; `config` may be empty.

    Keys of `config` that matter: group_norm_eps (of the norm over heads, 64e-5 by default), layer_norm_epsilon or
    norm_eps, context_length or max_position_embeddings. Raises StrataError when weights are missing, unknown, of another
    shape, of an unsupported variant, or contradict the configuration.
    """
    version, found = detect(store)
    sizes = measure(store, version, found)
    _check(config, sizes, name)
    flash = found is FLASH  # whose norm over heads has an epsilon that grows with their width
    norm_eps = _number(config, ("norm_eps",) if flash else ("layer_norm_epsilon", "norm_eps"), NORM_EPS)
    scaled = norm_eps * sizes.head_dim if flash and sizes.head_dim else GROUP_NORM_EPS
    head_norm_eps = _number(config, ("group_norm_eps",), scaled)
    shapes, tables = model_shapes(sizes), [block_shapes(sizes, i) for i in range(sizes.n_blocks)]
    specs = tuple(spec_of(table, sizes.n_heads) for table in tables)
    weights, blocks = found.read(store, shapes, tables)
    built = [RwkvBlock(block, w, version, norm_eps, head_norm_eps) for block, w in zip(specs, blocks, strict=True)]
    spec = ModelSpec(
        family="rwkv",
        variant=version,
        name=name,
        d_model=sizes.d_model,
        vocab_size=sizes.vocab_size,
        max_len=int(_number(config, ("context_length", "max_position_embeddings"), MAX_LEN.get(version, 4096))),
        blocks=specs,
        n_params=n_numbers(shapes) + sum(block.n_params for block in specs),
        source_hash=store.hash,
    )
    model = RwkvModel(spec, found, weights, built, norm_eps)
    model.tokenizer = find_tokenizer(store.path if store.path.is_dir() else store.path.parent, sizes.vocab_size)
    return model


def _check(config: dict, sizes: Sizes, name: str) -> None:
    for key, size in _SIZES.items():
        said, found = config.get(key), getattr(sizes, size)
        if said is not None and found is not None and said != found:
            raise StrataError(
                f"{name}: config.json says {key} {said}, the weights say {found}: use the config.json that came with the weights"
            )
    if config.get("hidden_act", "sqrelu") != "sqrelu":
        raise StrataError(f"{name}: hidden_act {config['hidden_act']} is not supported: use a model with sqrelu, RWKV's own")


def _number(config: dict, keys: tuple[str, ...], default: float) -> float:
    """The first of `keys` that the configuration has."""
    key = next((key for key in keys if config.get(key) is not None), None)
    if key is None:
        return default
    if isinstance(config[key], bool) or not isinstance(config[key], int | float) or not 0 < config[key] <= LARGEST:
        raise StrataError(f"config.json: {key} is {config[key]!r}, expected a number above zero that 32 bits hold")
    return config[key]
