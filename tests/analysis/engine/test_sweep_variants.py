"""Sweeps of every variant of Baichuan and RWKV give what a loop gives that runs the whole model again for each ablation.

The loop runs on the adapter in fp64, and on foreign code: the `rwkv` package and the published operations of Baichuan with
weights set to zero, and Hugging Face's RWKV-4 with modules deleted and silenced by hooks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import RwkvConfig, RwkvForCausalLM

from adapters import NONE, Ablation, BlockModel
from analysis.engine.ablations import KINDS, single_ablations
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from tests.reference import baichuan
from tests.reference.ablations import ablations
from tests.reference.rwkv_checkpoints import hugging_face_4
from tests.reference.rwkv_package import package_logits
from tests.reference.variants import BAICHUAN, BLOCKS, HEADS, RWKV, VARIANTS, VOCAB, config, model, tensors, without

LENGTHS = torch.tensor([19, 6])
SETS = [
    Ablation(blocks={0, 2}),
    Ablation(blocks={0}, mixers={1}, ffns={2}),
    Ablation(mixers={0, 1, 2}),
    Ablation(ffns={0, 1}, heads={(0, 0), (0, 2), (2, 1)}),
    Ablation(blocks={1}, heads={(0, h) for h in range(HEADS)} | {(2, 0)}),
]
Logits = Callable[[Ablation, Tensor], Tensor]  # of the model without the ablation, for one document (1, T): (T, vocab)


def tokens() -> Tensor:
    return torch.randint(VOCAB, (len(LENGTHS), int(LENGTHS.max())), generator=torch.Generator().manual_seed(1))


def everything(m: BlockModel) -> list[Ablation]:
    """Every single part, and sets; without heads where the architecture has none."""
    if m.spec.blocks[0].n_heads is None:
        return [*single_ablations(m.spec, ["blocks", "mixers", "ffns"]), *(Ablation(a.blocks, a.mixers, a.ffns) for a in SETS)]
    return [*single_ablations(m.spec, [kind for kind in KINDS if kind != "experts"]), *SETS]


def assert_equals_the_loop(m: BlockModel, chosen: list[Ablation], logits: Logits) -> None:
    """Mean nll of every ablation on every document; the loop reads them one by one, without padding."""
    p, ids = plan(m.spec, chosen), tokens()
    found = sweep(m, p, ids, LENGTHS, kl=False)["nll"]
    for a, ablation in enumerate(p.ablations):
        for d, length in enumerate(LENGTHS.tolist()):
            row = ids[d : d + 1, :length]
            expected = -logits(ablation, row)[:-1].double().log_softmax(-1).gather(1, row[0, 1:, None]).sum()
            assert abs(float(found[a, d] - expected)) / (length - 1) < 1e-5, f"{ablation}, document {d}"


@torch.inference_mode()
def again(variant: str, ablation: Ablation, row: Tensor) -> Tensor:
    """The adapter in fp64; blocks are deleted when nothing else is out."""
    m = model(variant, "float64")
    if ablation == Ablation(blocks=ablation.blocks):
        return m.with_blocks([b for i, b in enumerate(m.blocks) if i not in ablation.blocks]).run(row)[0]
    return m.run(row, ablation)[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_loop_on_the_adapter(variant: str) -> None:
    m = model(variant)
    assert_equals_the_loop(m, everything(m), lambda a, row: again(variant, a, row))


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=5)
@given(data=st.data())
def test_random_sets_equal_the_loop(variant: str, data: st.DataObject) -> None:
    m = model(variant)
    chosen = data.draw(ablations(BLOCKS, HEADS, most=6))
    if m.spec.blocks[0].n_heads is None:
        chosen = [Ablation(a.blocks, a.mixers, a.ffns) for a in chosen]
    assert_equals_the_loop(m, chosen, lambda a, row: again(variant, a, row))


@pytest.mark.shows("baichuan", abilities=("blocks", "heads"))
@pytest.mark.parametrize("variant", BAICHUAN)
def test_equals_the_loop_on_published_operations(variant: str) -> None:
    def logits(ablation: Ablation, row: Tensor) -> Tensor:
        cfg = baichuan.CONFIG | config(variant)
        return baichuan.naive(cfg, without(variant, ablation), row, alibi="13b" in variant, norm_head="2" in variant.split("-")[0])[0][0]

    m = model(variant)
    assert_equals_the_loop(m, everything(m), logits)


@pytest.mark.shows("rwkv", against="rwkv", abilities=("blocks", "heads"))
@pytest.mark.parametrize("variants", [RWKV[:-1], RWKV[-1:]], ids=["4-6", "7"])
def test_equals_the_loop_on_the_rwkv_package(variants: tuple[str, ...], tmp_path: Path) -> None:
    """One process for many runs, since the package takes seconds to import."""
    rows = [tokens()[d : d + 1, :length] for d, length in enumerate(LENGTHS.tolist())]
    keys = [(v, a, row) for v in variants for a in dict.fromkeys([NONE, *everything(model(v))]) for row in rows]
    outs = package_logits([(without(v, a), row[0]) for v, a, row in keys], tmp_path)
    logits = {(v, a, row.shape[1]): out for (v, a, row), out in zip(keys, outs, strict=True)}
    for v in variants:
        assert_equals_the_loop(model(v), everything(model(v)), lambda a, row, v=v: logits[v, a, row.shape[1]])


def test_equals_the_loop_on_transformers() -> None:
    cfg = RwkvConfig(vocab_size=VOCAB, hidden_size=24, intermediate_size=96, num_hidden_layers=BLOCKS, rescale_every=0)
    foreign = RwkvForCausalLM(cfg).eval()
    foreign.load_state_dict(hugging_face_4(tensors("rwkv-4")))
    # The norm of the embedding stands in the first block there, and would go with it.
    norm = foreign.rwkv.blocks[0].pre_ln
    foreign.rwkv.embeddings.weight.data = norm(foreign.rwkv.embeddings.weight).detach()
    foreign.rwkv.blocks[0].pre_ln = nn.Identity()

    @torch.no_grad()
    def logits(ablation: Ablation, row: Tensor) -> Tensor:
        smaller = copy.deepcopy(foreign).double()
        blocks = smaller.rwkv.blocks
        for i in ablation.mixers:
            blocks[i].attention.register_forward_hook(lambda module, args, out: (torch.zeros_like(out[0]), out[1]))
        for i in ablation.ffns:
            blocks[i].feed_forward.register_forward_hook(lambda module, args, out: (torch.zeros_like(out[0]), out[1]))
        smaller.rwkv.blocks = nn.ModuleList(b for i, b in enumerate(blocks) if i not in ablation.blocks)
        return smaller(row, use_cache=False).logits[0]

    m = model("rwkv-4")
    assert_equals_the_loop(m, everything(m), logits)
