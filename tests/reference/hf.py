"""Hugging Face's own models as the oracle: tiny random ones, and hooks that show what happens inside."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SIZES = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}


def tiny(model_type: str = "llama", *, seed: int = 0, **config: object) -> PreTrainedModel:
    """A small model in fp32. All its parameters are random and far from zero and one, so that none can be left out unseen."""
    cfg = CONFIG_MAPPING[model_type](**(SIZES | config))
    model = AutoModelForCausalLM.from_config(cfg, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith("conv1d.weight"):  # of one channel each
            p.data = 0.25 * noise
        elif p.dim() >= 2:
            p.data = noise * (1.0 if "embed" in name else 1.5 * p.shape[-1] ** -0.5)
        else:
            p.data = 0.3 * noise + (0.0 if name.endswith("bias") else 1.0)
    return model.requires_grad_(False)


class Observed(NamedTuple):
    logits: Tensor  # (D, T, vocab_size)
    streams: list[Tensor]  # in front of each block, and behind the last: (D, T, d)
    mids: list[Tensor]  # in front of each MLP's norm
    z: list[Tensor]  # (D, T, n_heads * head_dim), at the input of o_proj


@torch.no_grad()
def observe(model: PreTrainedModel, ids: Tensor, **inputs: Tensor) -> Observed:
    """One forward of a Llama-like model with hooks on its modules."""
    seen = Observed(torch.empty(0), [], [], [])

    def note(module: nn.Module, into: list[Tensor]) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_pre_hook(lambda _, args, kwargs: into.append((args or tuple(kwargs.values()))[0]), with_kwargs=True)

    handles = [note(model.model.norm, seen.streams)]
    for layer in model.model.layers:
        handles += [note(layer, seen.streams), note(layer.post_attention_layernorm, seen.mids), note(layer.self_attn.o_proj, seen.z)]
    try:
        logits = model(ids, use_cache=False, **inputs).logits
    finally:
        for handle in handles:
            handle.remove()
    return seen._replace(logits=logits)
