"""Baichuan against its published code (fixtures) and against plain operations (tests/reference/baichuan.py)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from adapters import BlockModel, StrataError, load
from adapters import attention as attention_module
from adapters.attention import Attention, KeyValuePast, attend
from adapters.block import Context
from adapters.checkpoints.layout import Store
from adapters.contract import assert_close, parametrize_with_checks
from adapters.families.baichuan import alibi_slopes, build
from adapters.norms import rms_norm
from tests.adapters.published import published
from tests.reference.baichuan import CONFIG, KINDS, naive, save, slopes, tiny
from tests.shared_data import shared


def loaded(kind: str, **config: object) -> BlockModel:
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), *tiny(**KINDS[kind] | config))
        return load(folder, dtype="float32", device="cpu")


def tokens(time: int = 37) -> Tensor:
    return torch.randint(97, (3, time), generator=torch.Generator().manual_seed(5))


def expected(kind: str, **config: object) -> tuple[Tensor, list[Tensor]]:
    logits, streams = naive(*tiny(**KINDS[kind] | config), tokens(), alibi="13b" in kind, norm_head="2" in kind.split("-")[0])
    return logits.float(), [x.float() for x in streams]


def assert_same(model: BlockModel, ids: Tensor, logits: Tensor, streams: list[Tensor]) -> None:
    """Logits, and the streams in front of each block; one more stream is the one behind the last block."""
    parts = []
    assert_close(model.run(ids, tap=lambda _, p: parts.append(p)), logits)
    for found, x in zip([p.x_in for p in parts] + [parts[-1].x_out], streams, strict=True):
        assert_close(found, x)


@pytest.mark.parametrize("name", ["baichuan-7b-tiny-random", "baichuan2-13b-tiny-random"])
def test_equals_published_code(name: str) -> None:
    folder = shared(f"baichuan_ref/{name}")
    model, reference = load(folder, dtype="float32", device="cpu"), load_file(folder / "expected.safetensors")
    ids, n = reference["input_ids"], len(model.blocks)
    parts = []
    assert_close(model.run(ids, tap=lambda _, p: parts.append(p)), reference["logits"])
    for i, p in enumerate(parts):
        assert_close(p.x_in, reference[f"hidden_states.{i}"])
    assert_close(rms_norm(parts[-1].x_out, model.weights["norm"], 1e-6), reference[f"hidden_states.{n}"])
    assert name.startswith(model.spec.variant)


@pytest.mark.shows("baichuan", against="its published operations, written out in fp64")
@pytest.mark.parametrize("heads", [4, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_plain_operations(kind: str, heads: int) -> None:
    model = loaded(kind, num_attention_heads=heads)
    assert_same(model, tokens(), *expected(kind, num_attention_heads=heads))
    assert (model.spec.family, model.spec.variant, model.spec.max_len) == ("baichuan", kind, 64)


@pytest.mark.parametrize(("part", "other"), [("q", "k"), ("k", "v"), ("q", "v")])
def test_swapped_parts_are_seen(part: str, other: str) -> None:
    model = loaded("baichuan-13b")
    for block in model.blocks:
        block.weights[part], block.weights[other] = block.weights[other], block.weights[part]
    with pytest.raises(AssertionError, match="max error"):
        assert_same(model, tokens(), *expected("baichuan-13b"))


def test_a_missing_norm_of_the_head_is_seen() -> None:
    model = loaded("baichuan2-13b")
    model.weights["unembed"] = tiny()[1]["lm_head.weight"]
    with pytest.raises(AssertionError, match="max error"):
        assert_close(model.run(tokens()), expected("baichuan2-13b")[0])


@pytest.mark.parametrize(
    "wrong", [slopes(8)[:6], [2.0 ** (-8 * i / 6) for i in range(1, 7)], slopes(6)[::-1], [0.0] * 6, sorted(slopes(6))]
)
def test_wrong_slopes_are_seen(wrong: list[float]) -> None:
    model = loaded("baichuan-13b")
    alibi = replace(model.blocks[0].attention, slopes=torch.tensor(wrong))
    model = model.with_blocks([replace(block, attention=alibi) for block in model.blocks])
    with pytest.raises(AssertionError, match="max error"):
        assert_same(model, tokens(), *expected("baichuan-13b"))


def test_slopes_of_40_heads() -> None:
    found = alibi_slopes(40)
    assert [round(found[i], 4) for i in (0, 31, 32, 39)] == [0.8409, 0.0039, 0.9170, 0.2726]


@pytest.mark.parametrize("n", [*range(1, 41), 52, 64, 71])
def test_slopes_equal_those_of_the_paper(n: int) -> None:
    assert alibi_slopes(n) == pytest.approx(slopes(n), rel=1e-12)


def test_the_head_is_normalised_once_at_load_and_for_good() -> None:
    model = loaded("baichuan2-7b")
    before = model.weights["unembed"].clone()
    model.run(tokens())
    assert torch.equal(model.weights["unembed"], before)
    assert_close(before.norm(dim=-1) + torch.arange(97), 1.0 + torch.arange(97))
    assert not torch.allclose(loaded("baichuan-7b").weights["unembed"].norm(dim=-1), torch.ones(97), atol=0.1)


@pytest.mark.parametrize(
    ("config", "variant"),
    [
        ({"vocab_size": 125696, "max_position_embeddings": 64}, "baichuan2-7b"),
        ({"vocab_size": 125696, "model_max_length": 64}, "baichuan2-13b"),
        ({"z_loss_weight": 0, "model_max_length": 64}, "baichuan2-13b"),
        ({"norm_head": True, "max_position_embeddings": 64}, "baichuan2-7b"),
        ({"norm_head": False, "model_max_length": 64}, "baichuan-13b"),
        ({"vocab_size": 64000, "model_max_length": 64}, "baichuan-13b"),
        ({"architectures": ["BaiChuanForCausalLM"]}, "baichuan-7b"),
        ({"hidden_size": 4096, "num_attention_heads": 32, "vocab_size": 64000, "model_max_length": 4096}, "baichuan-7b"),
        ({"hidden_size": 5120, "num_attention_heads": 40, "vocab_size": 64000, "max_position_embeddings": 4096}, "baichuan-13b"),
    ],
)
def test_variant_from_config(config: dict, variant: str) -> None:
    cfg = CONFIG | {"num_hidden_layers": 1, "intermediate_size": 8} | config
    model = published(build, cfg, block_shapes(cfg["hidden_size"], 8))
    assert model.spec.variant == variant
    assert (model.blocks[0].attention.slopes is not None) == (model.blocks[0].rotation is None) == ("13b" in variant)


@pytest.mark.parametrize("old", [0, 300])
def test_biases_never_exist_all_at_once(old: int) -> None:
    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **kwargs or {})
            for t in out if isinstance(out, tuple) else (out,):
                if isinstance(t, Tensor):
                    self.numbers = max(self.numbers, t.numel())
            return out

    heads, time = 40, 1500
    q, k, v = torch.randn(3, 1, heads, time, 4)
    past = KeyValuePast(torch.randn(1, heads, old, 4), torch.randn(1, heads, old, 4), torch.tensor([old])) if old else None
    with torch.inference_mode(), Largest() as largest:
        attend(q, k, v, Context(documents=1), past, Attention(slopes=torch.tensor(alibi_slopes(heads))))
    assert largest.numbers <= attention_module.SCORES < heads * time * time / 4


def attention(q: Tensor, k: Tensor, v: Tensor, how: Attention) -> Tensor:
    """Of the whole, in fp64 and as published."""
    assert how.slopes is not None
    q, k, v = q.double(), k.double(), v.double()
    time = q.shape[2]
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + how.slopes.double()[:, None, None] * torch.arange(time)
    return scores.masked_fill(torch.ones(time, time).triu(1).bool(), -torch.inf).softmax(-1) @ v


@pytest.mark.parametrize("numbers", [1, 500, 2000, 1 << 24])
def test_slices_of_queries_give_the_whole(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "SCORES", numbers)
    q, k, v = torch.randn(3, 2, 6, 37, 8, generator=torch.Generator().manual_seed(0))
    alibi = Attention(slopes=torch.tensor(alibi_slopes(6)))
    whole = attention(q, k, v, alibi).float()
    assert_close(attend(q, k, v, Context(documents=2), None, alibi)[0], whole)

    cuts = [9, 20]
    first = Context(documents=2, lengths=torch.tensor(cuts))
    _, past = attend(*(t[:, :, :20] for t in (q, k, v)), first, None, alibi)
    rest = [torch.stack([t[row, :, cut : cut + 17] for row, cut in enumerate(cuts)]) for t in (q, k, v)]
    found, _ = attend(*rest, Context(documents=2), past, alibi)
    for row, cut in enumerate(cuts):
        assert_close(found[row], whole[row, :, cut : cut + 17])


def test_bfloat16_keeps_distances_apart() -> None:
    """slope * key position in bf16 would be off by whole units here."""
    q, k, v = torch.randn(3, 1, 8, 700, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    alibi = Attention(slopes=torch.tensor(alibi_slopes(8)))
    found, _ = attend(q, k, v, Context(documents=1), None, alibi)
    assert found.dtype == torch.bfloat16
    assert_close(found.float(), attention(q, k, v, alibi).float(), 0.03)  # the rounding of the result alone gives 0.02


@pytest.mark.shows("baichuan")
@parametrize_with_checks({kind: partial(loaded, kind) for kind in KINDS})
def test_contract(check: Callable[[], None]) -> None:
    check()


def block_shapes(d: int, ffn: int, old: bool = False) -> dict[str, tuple[int, ...]]:
    return {
        "input_layernorm.weight": (d,),
        "mlp.down_proj.weight": (d, ffn),
        "mlp.gate_proj.weight": (ffn, d),
        "mlp.up_proj.weight": (ffn, d),
        "post_attention_layernorm.weight": (d,),
        "self_attn.W_pack.weight": (3 * d, d),
        "self_attn.o_proj.weight": (d, d),
    } | ({"self_attn.rotary_emb.inv_freq": (64,)} if old else {})


SEVEN = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "model_type": "baichuan",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 64000,
    "auto_map": {"AutoConfig": "configuration_baichuan.BaichuanConfig", "AutoModelForCausalLM": "modeling_baichuan.BaichuanForCausalLM"},
}
THIRTEEN = {key: value for key, value in SEVEN.items() if key != "max_position_embeddings"} | {
    "gradient_checkpointing": False,
    "hidden_size": 5120,
    "intermediate_size": 13696,
    "model_max_length": 4096,
    "num_attention_heads": 40,
    "num_hidden_layers": 40,
}
PUBLISHED = {
    "baichuan-7b": (SEVEN, block_shapes(4096, 11008, old=True), 7_000_559_616),
    "baichuan2-7b": (SEVEN | {"vocab_size": 125696, "model_max_length": 4096}, block_shapes(4096, 11008), 7_505_973_248),
    "baichuan-13b": (THIRTEEN, block_shapes(5120, 13696), 13_264_901_120),
    "baichuan2-13b": (THIRTEEN | {"vocab_size": 125696, "z_loss_weight": 0}, block_shapes(5120, 13696), 13_896_668_160),
}


@pytest.mark.shows("baichuan", checkpoint="baichuan-inc/Baichuan-7B")
@pytest.mark.parametrize("variant", PUBLISHED)
def test_published_shapes(variant: str) -> None:
    config, block, n_params = PUBLISHED[variant]
    model = published(build, config, block)
    assert (model.spec.variant, model.spec.n_params, model.spec.max_len) == (variant, n_params, 4096)
    assert {(b.n_heads, b.n_kv_heads, b.head_dim) for b in model.spec.blocks} == {(config["num_attention_heads"],) * 2 + (128,)}
    assert model.run(torch.zeros(1, 4, dtype=torch.long, device="meta")).shape == (1, 4, config["vocab_size"])


def rewrite(folder: Path, **config: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ({"hidden_size": 36}, ("97 x 48", "config.json is of another model")),
        ({"num_hidden_layers": 4}, ("lacks the weight model.layers.3.",)),
        ({"num_hidden_layers": 2}, ("model.layers.2.", "2 blocks")),
        ({"hidden_act": "sillu"}, ("did you mean silu",)),
        ({"quantization_config": {"bits": 4}}, ("is quantised", "use the checkpoint it was made from")),
        ({"num_attention_heads": "many"}, ("config.json is not valid",)),
        ({"num_attention_heads": 5}, ("config.json is not valid", "48", "5")),
    ],
)
def test_bad_config(config: dict, parts: tuple[str, ...], tmp_path: Path) -> None:
    save(tmp_path, *tiny(**KINDS["baichuan-13b"]))
    rewrite(tmp_path, **config)
    with pytest.raises(StrataError) as caught:
        load(tmp_path)
    assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_needed_and_no_other_is_taken(kind: str) -> None:
    config, tensors = tiny(**KINDS[kind])

    def build_from(weights: dict[str, Tensor]) -> BlockModel:
        return build(config, Store(Path("tiny"), {k: tuple(t.shape) for k, t in weights.items()}, weights.__getitem__), "tiny")

    for key in tensors:
        with pytest.raises(StrataError, match=f"lacks the weight {key}"):
            build_from({k: t for k, t in tensors.items() if k != key})
    for key in ("model.layers.0.self_attn.o_proj.bias", "new.weight"):
        with pytest.raises(StrataError, match=f"does not explain: {key}"):
            build_from(tensors | {key: torch.zeros(2)})


def test_weights_that_are_not_packed_are_refused(tmp_path: Path) -> None:
    config, tensors = tiny(**KINDS["baichuan-7b"])
    q, k, v = tensors.pop("model.layers.0.self_attn.W_pack.weight").chunk(3)
    tensors |= {f"model.layers.0.self_attn.{role}_proj.weight": t.clone() for role, t in zip("qkv", (q, k, v), strict=True)}
    save(tmp_path, config, tensors)
    with pytest.raises(StrataError, match=r"lacks the weight model\.layers\.0\.self_attn\.W_pack\.weight"):
        load(tmp_path)
