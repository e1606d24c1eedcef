"""The check of a spec: every number of it against the weights, without the tables that adapters make it from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from adapters.base import BlockModel
from adapters.block import Block, Context
from adapters.contract.tools import cast, token_ids
from adapters.experts import experts_of

Run = Callable[[Tensor, Context], Tensor]
PRODUCTS = ("linear", "matmul", "__matmul__", "mm", "bmm")  # functions; their first two tensors are factors, a third is a bias


class Factors(TorchFunctionMode):
    """Notes which of some weights are factors of matrix products while it is on, and counts the FLOPs of these products."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.role_of = {t.untyped_storage().data_ptr(): role for role, t in weights.items()}
        self.flops = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> object:
        out = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in PRODUCTS:
            tensors = [t for t in args if isinstance(t, Tensor)][:2]
            factors = {t.untyped_storage().data_ptr() for t in tensors if min(t.shape[-2:]) > 1}  # else it is a vector, though of each head
            self.flops += 2 * out.numel() * tensors[0].shape[-1] if factors & self.role_of.keys() else 0
        return out


def check_spec(model: BlockModel) -> None:
    """Every number of the spec is what the weights say: a part's parameters are those that its output has gradients to, its
    FLOPs those of the matrix products of which its weights are factors, counted for the tokens that they are done for."""
    model = cast(model, torch.promote_types(model.dtype, torch.float32))
    spec, tables = model.spec, [model.weights, *(block.weights for block in model.blocks)]
    _equal("n_params", spec.n_params, sum(_size(table.values()) for table in tables))
    _equal("vocab_size, d_model", (spec.vocab_size, spec.d_model), tuple(model.weights["embed"].shape))
    x, ctx = model.begin(token_ids(model))
    for i, block in enumerate(model.blocks):
        found, w = block.spec, block.weights
        mixer, mixer_flops = _part(w, _mixed(block), x, ctx) if found.has_mixer else (set(), 0)
        ffn, ffn_flops = _part(w, _fed(block), x, ctx) if found.has_ffn else (set(), 0)
        where = f"block {i}: "
        ffn -= mixer  # a norm that both read is the mixer's
        _equal(where + "weights of its parts", sorted([*mixer, *ffn]), sorted(w))
        _equal(where + "n_params", found.n_params, _size(w.values()))
        _equal(where + "mixer_params", found.mixer_params, _size(w[role] for role in mixer))
        _equal(where + "flops_per_token", found.flops_per_token, mixer_flops + ffn_flops)
        _equal(where + "mixer_flops", found.mixer_flops, mixer_flops)
        _equal(where + "d_ffn", found.d_ffn, next((len(w[role]) for role in ("up", "shared_up") if role in w), 0))
        _check_experts(where, block, x)
        _equal(where + "affine_heads", found.affine_heads, not found.has_mixer or torch.equal(block.close(x), x))
        z = block.mix(x, ctx).z if found.has_mixer else None
        _equal(where + "n_heads, head_dim", (found.n_heads, found.head_dim), (None, None) if z is None else tuple(z.shape[2:]))
        _equal(where + "n_kv_heads", found.n_kv_heads, None if z is None or "k" not in w else len(w["k"]) // z.shape[3])


def _check_experts(where: str, block: Block, x: Tensor) -> None:
    found, w = block.spec, block.weights
    stack = w.get("expert_up", torch.empty(0, 0, 0))
    each = _size(t for role, t in w.items() if role.startswith("expert_")) // max(1, len(stack))
    _equal(where + "n_experts, d_expert, expert_params", (found.n_experts, found.d_expert, found.expert_params), (*stack.shape[:2], each))
    _equal(where + "shared_expert", found.shared_expert, "shared_up" in w)
    sent = experts_of(block).route(x).experts.shape[-1] if len(stack) else 0
    _equal(where + "experts_per_token", found.experts_per_token, sent)


def _mixed(block: Block) -> Run:
    return lambda x, ctx: block.close(block.mix(x, ctx).delta)


def _fed(block: Block) -> Run:
    return lambda x, ctx: block.ffn(x, ctx)[0]


def _part(weights: Mapping[str, Tensor], run: Run, x: Tensor, ctx: Context) -> tuple[set[str], int]:
    """The roles that a part of a block reads, and the FLOPs a token of its matrix products with weights."""
    with torch.inference_mode(False), torch.enable_grad():
        leaves = [t.requires_grad_() for t in weights.values()]
        gradients = torch.autograd.grad(run(x, ctx).sum(), leaves, allow_unused=True)
    roles = {role for role, g in zip(weights, gradients, strict=True) if g is not None}
    with torch.no_grad(), Factors(weights) as factors:
        run(x, ctx)
    tokens = x.shape[0] * x.shape[1]
    assert factors.flops % tokens == 0, f"{factors.flops} FLOPs of products are not a whole number for each of {tokens} tokens"
    return roles, factors.flops // tokens


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() for t in tensors)


def _equal(what: str, said: object, found: object) -> None:
    assert said == found, f"{what} of the spec is {said}, the weights say {found}"
