"""Quantised checkpoints as floats: against slow loops, compressed-tensors' own decompression, and transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters import Ablation, load
from adapters.checkpoints.export import Source
from adapters.checkpoints.layout import Store
from adapters.checkpoints.quantised import as_floats, require_floats
from adapters.checkpoints.stock import by_strata, reader_of
from adapters.contract import CHECKS, assert_close
from adapters.errors import StrataError
from adapters.specs import ModelSpec
from tests.reference import baichuan
from tests.reference.gptq import floats, random_linear, save_gptq, tensors
from tests.reference.hf import observe
from tests.reference.models import spec

KINDS: dict[str, dict] = {
    "sym": {},
    "asym": {"sym": False},
    "desc_act": {"sym": False, "desc_act": True},
    "one group": {"size": 0},
    "version 2": {"sym": False, "version": 2},
    "8 bits": {"sym": False, "bits": 8, "size": 32},
}
SAID = {"one group": "4-bit weights, one group a row (gptq)", "8 bits": "8-bit weights, groups of 32 (gptq)"}
IDS = torch.randint(0, 97, (2, 20), generator=torch.Generator().manual_seed(0))


def rewrite(folder: Path, **quantised: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"quantization_config": config["quantization_config"] | quantised}))


@pytest.mark.parametrize("kind", KINDS)
def test_gptq_files_are_what_slow_loops_say(kind: str, tmp_path: Path) -> None:
    reference = save_gptq(tmp_path, **KINDS[kind])
    model = load(tmp_path, device="cpu")
    for block, layer in zip(model.blocks, reference.model.layers, strict=True):
        for role, module in (("q", layer.self_attn.q_proj), ("o", layer.self_attn.o_proj), ("down", layer.mlp.down_proj)):
            assert torch.equal(block.weights[role], module.weight)
        assert not [role for role in block.weights if role.endswith("_bias")]
    assert_close(model.run(IDS), reference(IDS).logits)
    assert model.spec.quantised == SAID.get(kind, "4-bit weights, groups of 16 (gptq)")
    assert model.spec.n_params == sum({p.data_ptr(): p.numel() for p in reference.parameters()}.values())


def test_groups_are_even_where_no_g_idx_says_otherwise_and_the_file_of_autogptq_is_read(tmp_path: Path) -> None:
    reference = save_gptq(tmp_path, sym=False)
    path = tmp_path / "model.safetensors"
    save_file({key: t for key, t in load_file(path).items() if not key.endswith("g_idx")}, path, metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    own = config.pop("quantization_config")
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "quantize_config.json").write_text(json.dumps({key: own[key] for key in ("bits", "group_size", "sym", "desc_act")}))
    assert_close(load(tmp_path, device="cpu").run(IDS), reference(IDS).logits)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Callable, tmp_path: Path) -> None:
    save_gptq(tmp_path, sym=False)
    check(load(tmp_path, device="cpu", dtype="float32"))


def test_heads_are_taken_out_on_activations(tmp_path: Path) -> None:
    """As zeros at the input of o_proj of the Hugging Face model with the same weights."""
    reference = save_gptq(tmp_path, sym=False, desc_act=True)
    model, size = load(tmp_path, device="cpu"), 16
    for layer, heads in ((0, [1]), (2, [0, 3])):

        def zero(module: torch.nn.Module, args: tuple, heads: list[int] = heads) -> tuple:
            z = args[0].unflatten(-1, (-1, size)).clone()
            z[..., heads, :] = 0
            return (z.flatten(-2),)

        hook = reference.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(zero)
        expected = observe(reference, IDS).logits
        hook.remove()
        assert_close(model.run(IDS, Ablation(heads=frozenset((layer, head) for head in heads))), expected)


@pytest.mark.parametrize("removed", [[1], [0, 2]])
def test_blocks_are_removed_from_the_file_without_touching_the_rest(removed: list[int], tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    save_gptq(tmp_path / "whole", sym=False, desc_act=True)
    model = load(tmp_path / "whole", device="cpu")
    source = Source.of(str(tmp_path / "whole"), model.spec)
    assert reader_of(model.spec, source.store, "safetensors") == "strata"
    (tmp_path / "less").mkdir()
    source.write(removed, tmp_path / "less", "safetensors")
    expected = model.run(IDS, Ablation(blocks=frozenset(removed)))
    assert_close(by_strata(tmp_path / "less", IDS, "cpu", "float32"), expected)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "less"))
    kept = next(i for i in range(3) if i not in removed)
    name = "model.layers.{}.mlp.down_proj.qweight"
    assert torch.equal(after[name.format(0)], before[name.format(kept)])
    assert load(tmp_path / "less", device="cpu").spec.quantised == model.spec.quantised


@pytest.mark.parametrize("variant", ["baichuan2-7b", "baichuan-13b"])
def test_baichuan_s_fused_weight_is_read(variant: str, tmp_path: Path) -> None:
    """Codes of the queries, keys and values in one, against published operations on the floats that slow loops make of them."""
    config, plain = baichuan.tiny(**baichuan.KINDS[variant])
    held, made = dict(plain), dict(plain)
    for seed, key in enumerate(key for key in plain if key.endswith(("W_pack.weight", "_proj.weight"))):
        rows, columns = plain[key].shape
        linear = random_linear(rows, columns, bits=4, size=16, sym=False, desc_act=False, seed=seed)
        del held[key]
        held |= {f"{key.removesuffix('.weight')}.{name}": t.contiguous() for name, t in tensors(linear, 4, 1).items()}
        made[key] = floats(linear)
    quantised = {"quant_method": "gptq", "bits": 4, "group_size": 16, "sym": False, "desc_act": False}
    baichuan.save(tmp_path, config | {"quantization_config": quantised}, held)
    assert "model.layers.0.self_attn.W_pack.qweight" in held
    expected, _ = baichuan.naive(config, made, IDS, alibi="13b" in variant, norm_head="2" in variant)
    model = load(tmp_path, device="cpu")
    assert_close(model.run(IDS), expected)
    assert model.spec.quantised == "4-bit weights, groups of 16 (gptq)"


SCHEMES: dict[str, dict] = {
    "channel": {"strategy": "channel", "num_bits": 8},
    "groups": {"strategy": "group", "group_size": 32},
    "asym": {"strategy": "group", "group_size": 32, "symmetric": False},
    "asym channel": {"strategy": "channel", "symmetric": False, "num_bits": 8},
    "reordered": {"strategy": "group", "group_size": 32, "symmetric": False},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", SCHEMES)
def test_packed_weights_are_what_their_own_library_unpacks(kind: str, dtype: torch.dtype) -> None:
    """compressed-tensors unpacks into the scales' dtype, which rounds; ours is exact, and the same when it is rounded too."""
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    arguments = {"num_bits": 4, "type": "int", "symmetric": True} | SCHEMES[kind]
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**arguments))
    generator = torch.Generator().manual_seed(0)
    out, columns, groups = 24, 96, 1 if "channel" in kind else 3
    state = {
        "weight": torch.randn(out, columns, generator=generator).to(dtype),
        "weight_scale": (0.05 + 0.3 * torch.rand(out, groups, generator=generator)).to(dtype),
        "weight_zero_point": torch.randint(-5, 5, (out, groups), generator=generator, dtype=torch.int8),
    }
    if arguments["symmetric"]:
        del state["weight_zero_point"]
    packed = PackedQuantizationCompressor.compress(state, scheme)
    if kind == "reordered":
        packed["weight_g_idx"] = torch.arange(columns)[torch.randperm(columns, generator=generator)] % groups
    tensors = {f"x.{name}": tensor for name, tensor in packed.items()}
    store = Store(Path("x"), {key: tuple(t.shape) for key, t in tensors.items()}, tensors.__getitem__)
    config = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"0": {"weights": arguments}}}
    found = as_floats(store, config, "x")
    assert found.shapes == {"x.weight": (out, columns)}
    assert found.hash == store.hash
    if kind == "reordered":  # as files of older versions are: columns are put in the order of their groups, and back
        index = packed.pop("weight_g_idx")
        order = index.argsort(stable=True)
        moved = packed | {"weight_packed": repacked(packed["weight_packed"], order)}
        expected = PackedQuantizationCompressor.decompress(moved, scheme)["weight"][:, order.argsort()]
    else:
        expected = PackedQuantizationCompressor.decompress(packed, scheme)["weight"]
    assert torch.equal(found.read("x.weight").to(dtype), expected)


def repacked(words: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32

    return pack_to_int32(unpack_from_int32(words, 4, torch.Size((len(words), len(order))))[:, order], 4)


def drop(ending: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file({k: t for k, t in load_file(path).items() if not k.endswith(ending)}, path, metadata={"format": "pt"})

    return spoil


def without_order(folder: Path) -> None:
    rewrite(folder, desc_act=True)
    drop("g_idx")(folder)


def wrong_groups(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({k: t + 1 if k.endswith("g_idx") else t for k, t in load_file(path).items()}, path, metadata={"format": "pt"})


BAD: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "three bits": (lambda folder: rewrite(folder, bits=3), ("gptq, 3 bits", "4 or 8 bits are read", "use the checkpoint")),
    "dynamic": (lambda folder: rewrite(folder, dynamic={"-:x": {}}), ("differ from layer to layer", "use the checkpoint")),
    "marlin": (lambda folder: rewrite(folder, checkpoint_format="marlin"), ("4 bits, marlin", "use the checkpoint")),
    "awq": (lambda folder: rewrite(folder, quant_method="awq"), ("is quantised (awq)", "use the checkpoint")),
    "groups": (wrong_groups, ("layers.0.self_attn.q_proj.weight", "do not fit together", "download it again")),
    "no codes": (drop("qweight"), ("not packed", "use the checkpoint")),
    "no scales": (drop("scales"), ("layers.0.mlp.down_proj.scales is missing", "download it again")),
    "no zeros": (drop("layers.1.mlp.up_proj.qzeros"), ("layers.1.mlp.up_proj.qzeros is missing", "download it again")),
    "no order": (without_order, ("layers.0.mlp.down_proj.g_idx is missing", "download it again")),
    "activations": (
        lambda folder: rewrite(
            folder,
            quant_method="compressed-tensors",
            format="int-quantized",
            config_groups={"0": {"weights": {"num_bits": 8}, "input_activations": {"num_bits": 8}}},
        ),
        ("not packed", "use the checkpoint"),
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_read_is_refused(kind: str, tmp_path: Path) -> None:
    spoil, parts = BAD[kind]
    save_gptq(tmp_path)
    spoil(tmp_path)
    with pytest.raises(StrataError) as caught:
        load(tmp_path, device="cpu")
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.parametrize(
    ("weights", "changed", "says"),
    [
        ({}, {"weight_scale": None}, "x.weight_scale is missing"),
        ({}, {"weight_scale": torch.ones(24)}, r"x.weight_scale has axes \[24\], expected 2 of them"),
        ({"symmetric": False}, {}, "x.weight_zero_point is missing"),
        ({"actorder": "group"}, {}, "x.weight_g_idx is missing"),
    ],
)
def test_parts_of_packed_weights_that_are_missing_are_named(weights: dict, changed: dict, says: str) -> None:
    shape = torch.tensor([24, 96])
    parts = {"weight_packed": torch.zeros(24, 12, dtype=torch.int32), "weight_scale": torch.ones(24, 3), "weight_shape": shape} | changed
    held = {f"x.{name}": t for name, t in parts.items() if t is not None}
    store = Store(Path("x"), {key: tuple(t.shape) for key, t in held.items()}, held.__getitem__)
    groups = {"0": {"weights": {"num_bits": 4} | weights}}
    with pytest.raises(StrataError, match=f"{says}; download it again"):
        as_floats(store, {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": groups}, "x")


def test_methods_that_need_floats_can_refuse(tmp_path: Path) -> None:
    save_gptq(tmp_path)
    with pytest.raises(StrataError, match=r"SliceGPT computes with float weights, and .* has 4-bit weights, groups of 16 \(gptq\): use"):
        require_floats(load(tmp_path, device="cpu").spec, "SliceGPT")
    plain: ModelSpec = spec(2)
    require_floats(plain, "SliceGPT")
