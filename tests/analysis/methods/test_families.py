"""Every method on families of decoders that differ from Llama: what it takes is there, what it makes is what its spec and its files say."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from adapters.checkpoints.export import Source
from adapters.checkpoints.stock import by_transformers
from adapters.contract import assert_close, check_spec
from analysis.methods.method import solve
from analysis.methods.rewrite import bases, dtype_of
from analysis.methods.study import known
from analysis.methods.table import METHODS
from tests.analysis.methods.deep import text
from tests.reference.families import STOCK
from tests.reference.parity import Pair

BLOCKS = 6
GEMMA = {"head_dim": 12, "query_pre_attn_scalar": 7, "sliding_window": 9}
TYPES = {
    "gpt_neox": {},
    "gpt2": {},
    "gemma2": GEMMA,
    "olmo2": {},
    "jamba": STOCK["jamba"] | {"num_experts": 1},
    "mixtral": STOCK["mixtral"],
}
ALWAYS = {"shortgpt", "one_shot", "laco"}
KNOWN = {
    "gpt_neox": ALWAYS | {"linear", "llm_pruner"},
    "gpt2": ALWAYS | {"linear", "llm_pruner"},
    "gemma2": ALWAYS | {"llm_pruner", "llm_pruner_published"},
    "olmo2": ALWAYS,
    "jamba": ALWAYS - {"laco"} | {"linear"},
    "mixtral": ALWAYS - {"laco"} | {"linear"},
}


@cache
def made(model_type: str) -> Pair:
    return Pair(model_type, {"num_hidden_layers": BLOCKS} | TYPES[model_type])


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("laco", "blocks of one kind"),
        ("slicegpt", "in front of attention and of a gated ffn"),
        ("llm_pruner", "attention whose heads work"),
    ],
)
def test_a_hybrid_is_refused_for_what_it_lacks(name: str, takes: str) -> None:
    assert takes in METHODS[name].lacks(made("jamba").model)


@pytest.mark.parametrize("model_type", TYPES)
def test_methods_say_what_they_take(model_type: str) -> None:
    assert set(known(made(model_type).model, tuple(METHODS))) == KNOWN[model_type]


@pytest.mark.parametrize(("model_type", "name"), [(t, name) for t, names in KNOWN.items() for name in sorted(names)])
def test_what_is_made_runs_and_has_the_size_of_its_spec(model_type: str, name: str) -> None:
    model = made(model_type).model
    pruned = solve(METHODS[name], model, text(), 1 / 3, tolerance=0.2).model
    check_spec(pruned)
    with torch.inference_mode():
        assert torch.isfinite(pruned.run(text()[0].ids)).all()
    assert pruned.spec.n_params < model.spec.n_params


@pytest.mark.parametrize(("model_type", "name"), [(t, name) for t in KNOWN for name in ("laco", "linear") if name in KNOWN[t]])
def test_transformers_reads_what_is_rewritten(model_type: str, name: str, tmp_path: Path) -> None:
    p = made(model_type)
    pruned = METHODS[name].prune(p.model, text(), 2)
    kept = bases(p.model, pruned)
    pairs = [(block.weights, p.model.blocks[i].weights) for block, i in zip(pruned.blocks, kept, strict=True)]
    new = [{role: t for role, t in after.items() if t is not before[role]} for after, before in pairs]
    assert any(new)
    source = Source.of(p.folder.name, p.model.spec)
    assert dtype_of(source) == torch.float32
    source.write(set(range(BLOCKS)) - set(kept), tmp_path, "safetensors", source.layout.write({}, new))
    ids = text()[0].ids
    with torch.inference_mode():
        assert_close(by_transformers(tmp_path, ids, "cpu", "float32"), pruned.run(ids), 1e-4)
