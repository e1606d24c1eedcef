"""Greedy generation through the past, against running the whole text again for every token, and against transformers."""

from __future__ import annotations

import pytest
import torch

from adapters import NONE, Ablation, BlockModel
from adapters.checkpoints.export import remove_blocks
from analysis.engine.generation import generate
from tests.reference import variants
from tests.reference.models import pair

IDS = torch.randint(3, 97, (2, 6), generator=torch.Generator().manual_seed(0))
ABLATIONS = [NONE, Ablation(blocks=frozenset({0})), Ablation(mixers=frozenset({1}), ffns=frozenset({2}))]


def uncached(model: BlockModel, ids: torch.Tensor, n: int, ablation: Ablation) -> torch.Tensor:
    for _ in range(n):
        ids = torch.cat([ids, model.run(ids, ablation)[:, -1:].argmax(-1)], 1)
    return ids[:, -n:]


@pytest.mark.parametrize("ablation", ABLATIONS, ids=str)
@pytest.mark.parametrize("variant", ["llama", *variants.VARIANTS])
def test_cached_generation_is_uncached_generation(variant: str, ablation: Ablation) -> None:
    model = pair("llama")[0] if variant == "llama" else variants.model(variant)
    assert torch.equal(generate(model, IDS, 7, ablation), uncached(model, IDS, 7, ablation))


@pytest.mark.parametrize("variant", ["llama", *variants.VARIANTS])
def test_deleted_blocks_generate_as_ablated_ones(variant: str) -> None:
    model = pair("llama")[0] if variant == "llama" else variants.model(variant)
    assert torch.equal(generate(model.with_blocks(model.blocks[1:]), IDS, 7), generate(model, IDS, 7, ABLATIONS[1]))


@pytest.mark.parametrize("variant", ["llama", *variants.VARIANTS])
def test_cached_generation_of_a_pruned_model_without_block_0(variant: str) -> None:
    """RWKV-7 as its checkpoint is read: rerooted."""
    model = remove_blocks(pair("llama")[0] if variant == "llama" else variants.model(variant), [0])
    assert torch.equal(generate(model, IDS, 7), uncached(model, IDS, 7, NONE))


def test_generation_of_transformers() -> None:
    model, reference = pair("qwen3")
    expected = reference.generate(IDS, max_new_tokens=7, min_new_tokens=7, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert torch.equal(generate(model, IDS, 7), expected[:, 6:])
