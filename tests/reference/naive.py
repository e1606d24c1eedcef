"""The naive loop: take modules out of a copy of a Hugging Face model, and run the whole of it again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapters import Ablation


@torch.no_grad()
def naive_nll(hf_model: PreTrainedModel, ids: Tensor, ablation: Ablation) -> Tensor:
    """Negative log-likelihood of each token but the first (D, T-1), in fp64, of a Llama-like model with `ablation` taken out."""
    logits = without(hf_model, ablation)(ids, use_cache=False).logits[:, :-1]
    return -logits.double().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]


def without(hf_model: PreTrainedModel, ablation: Ablation) -> PreTrainedModel:
    """A copy in which heads, mixers and ffns give nothing and blocks are deleted."""
    model = copy.deepcopy(hf_model)
    layers = model.model.layers
    heads: dict[int, list[int]] = {}
    for i, head in ablation.heads:
        heads.setdefault(i, []).append(head)
    for i, out in heads.items():
        attention = layers[i].self_attn
        attention.o_proj.register_forward_pre_hook(_zero_columns(out, attention.head_dim))
    for i in ablation.mixers:
        _silence(layers[i].self_attn.o_proj)
    for i in ablation.ffns:
        _silence(layers[i].mlp.down_proj)
    model.model.layers = nn.ModuleList(layer for i, layer in enumerate(layers) if i not in ablation.blocks)
    for i, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = i
    model.config.num_hidden_layers = len(model.model.layers)
    return model


def _silence(linear: nn.Linear) -> None:
    linear.weight.zero_()
    if linear.bias is not None:
        linear.bias.zero_()


def _zero_columns(heads: Iterable[int], head_dim: int) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
    """Input columns of the output projection that belong to `heads`."""
    columns = [c for head in heads for c in range(head * head_dim, (head + 1) * head_dim)]

    def hook(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        z = args[0].clone()
        z[..., columns] = 0
        return (z,)

    return hook
