"""RWKV against the `rwkv` package, transformers, rwkv.cpp's trained models, and its own token-by-token definition."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from transformers import RwkvConfig, RwkvForCausalLM

from adapters import KEEP, Ablation, StrataError, load
from adapters.checkpoints.files import open_store
from adapters.checkpoints.layout import Store
from adapters.contract import assert_close, parametrize_with_checks
from adapters.families.rwkv import RwkvModel, build, wkv
from adapters.families.rwkv.tokenizers import ByteTokenizer, WorldTokenizer, find_tokenizer
from tests.adapters.published import Keys
from tests.reference import rwkv_cpp
from tests.reference.rwkv_checkpoints import VERSIONS, flash_linear_attention_7, hugging_face_4, random_checkpoint
from tests.reference.rwkv_naive import naive
from tests.reference.rwkv_package import package_logits
from tests.reference.wkv_loops import delta_loop, linear_loop
from tests.shared_data import shared

SHAPES = (
    ({"heads": 2, "head_size": 16, "blocks": 3}, 77),
    ({"heads": 3, "head_size": 8, "d_ffn": 40, "rank": 4, "decay": (-8.0, 3.0)}, 141),
    ({"heads": 2, "head_size": 64, "vocab": 300}, 203),
)


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def model_of(weights: dict[str, Tensor], config: dict | None = None, dtype: torch.dtype = torch.float32) -> RwkvModel:
    store = Store(Path("tiny"), {key: tuple(t.shape) for key, t in weights.items()}, weights.__getitem__, dtype=dtype)
    return build(config or {}, store, "tiny")


def random_model(version: str, **sizes: int) -> RwkvModel:
    return model_of(random_checkpoint(version, **sizes))


def tokens(model: RwkvModel, rows: int = 2, time: int = 70, seed: int = 0) -> Tensor:
    return torch.randint(model.spec.vocab_size, (rows, time), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("versions", [VERSIONS[:-1], VERSIONS[-1:]], ids=["4-6", "7"])
def test_equals_the_rwkv_package(versions: tuple[str, ...], tmp_path: Path) -> None:
    cases = [(v, random_checkpoint(v, seed=i, **sizes), time) for v in versions for i, (sizes, time) in enumerate(SHAPES)]
    ids = [torch.randint(61, (time,), generator=torch.Generator().manual_seed(time)) for _, _, time in cases]
    expected = package_logits([(weights, row) for (_, weights, _), row in zip(cases, ids, strict=True)], tmp_path)
    for i, (version, weights, _) in enumerate(cases):
        model = load(tmp_path / f"{i}.pth", device="cpu")
        assert model.spec.variant == version
        assert model.spec.n_params == sum(t.numel() for t in weights.values())
        assert_close(model.run(ids[i][None])[0], expected[i])


ODD = (
    ({"heads": 1, "head_size": 128, "d_ffn": 37}, 1),
    ({"heads": 3, "head_size": 32, "d_ffn": 101, "rank": 5}, 64),
    ({"heads": 5, "head_size": 8, "rank": 3, "decay": (-2.0, 8.0), "blocks": 3}, 129),
    ({"heads": 7, "head_size": 4, "rank": 1, "d_ffn": 7}, 32),
)


@pytest.mark.parametrize("version", VERSIONS)
def test_equals_plain_operations_on_odd_shapes(version: str) -> None:
    """In fp64, where nothing can hide in rounding."""
    for sizes, time in ODD:
        weights = random_checkpoint(version, **sizes)
        ids = torch.randint(61, (time,), generator=torch.Generator().manual_seed(time))
        assert_close(model_of(weights, dtype=torch.float64).run(ids[None])[0], naive(weights, version, ids), 1e-9)


@pytest.mark.parametrize(("file", "variant"), [("4v0-660K", "4"), ("5v1-730K", "5.0"), ("5v2-730K", "5.2")])
def test_trained_models_give_their_logits(file: str, variant: str, tmp_path: Path) -> None:
    """The eps of the norm over heads belongs to the checkpoint: these were trained with 1e-5."""
    expected = torch.frombuffer(bytearray(shared(f"models/rwkv/expected-logits-{file}.bin").read_bytes()), dtype=torch.float32)
    (tmp_path / "model.pth").symlink_to(shared(f"models/rwkv/tiny-rwkv-{file}.pth"))
    (tmp_path / "config.json").write_text(json.dumps({"group_norm_eps": 1e-5}))
    model = load(tmp_path, device="cpu", dtype="float32")
    assert model.spec.variant == variant
    assert model.tokenizer.encode('"in').ids == list(b'"in')
    found = model.run(torch.tensor([list(b'"in')]))[0, -1]
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize(("file", "logits", "within"), [("7v0-834K-FP32", "7v0-834K", 1e-5), ("6v0-3m-Q5_1", "6v0-3m", 0.08)])
def test_files_of_rwkv_cpp_give_their_logits(file: str, logits: str, within: float) -> None:
    """RWKV-6 is quantised in its file, and was not when the logits were made."""
    expected = torch.frombuffer(bytearray(shared(f"models/rwkv/expected-logits-{logits}.bin").read_bytes()), dtype=torch.float32)
    model = model_of(rwkv_cpp.read(shared(f"models/rwkv/tiny-rwkv-{file}.bin")))
    assert (model.run(torch.tensor([list(b'"in')]))[0, -1] - expected).abs().max() < within


@pytest.mark.parametrize("saved", ["pickle", "safetensors"])
def test_version_4_equals_transformers(saved: str, tmp_path: Path) -> None:
    native = random_checkpoint("4", d_ffn=48, blocks=3)
    config = RwkvConfig(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=3, rescale_every=0)
    reference = RwkvForCausalLM(config).eval()
    reference.load_state_dict(hugging_face_4(native))
    if saved == "safetensors":
        reference.save_pretrained(tmp_path)
    else:
        config.save_pretrained(tmp_path)
        torch.save(reference.state_dict(), tmp_path / "pytorch_model.bin")
    model = load(tmp_path, device="cpu", dtype="float32")
    assert model.spec.max_len == config.context_length
    ids = tokens(model)
    assert_close(model.run(ids), reference(ids).logits)
    assert_close(model.run(ids), model_of(native).run(ids), 1e-6)


@pytest.mark.shows("rwkv7", against="the native layout of RWKV-7", abilities=("blocks",))
@pytest.mark.parametrize(
    "said", [{"norm_eps": 1e-5}, {}, {"norm_eps": 1e-5, "layer_norm_epsilon": 0.1}], ids=["said", "default", "another"]
)
def test_version_7_of_flash_linear_attention_is_the_native_one(said: dict[str, float], tmp_path: Path) -> None:
    native = random_checkpoint("7")
    save_file(flash_linear_attention_7(native), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "rwkv7", "hidden_size": 32, "head_dim": 16, **said}))
    model = load(tmp_path, device="cpu")
    expected = model_of(native, {"group_norm_eps": 16 * 1e-5})  # there it is the head size times norm_eps
    assert torch.equal(model.run(tokens(model)), expected.run(tokens(model)))
    assert model.spec.n_params == expected.spec.n_params


@pytest.mark.parametrize("version", VERSIONS)
def test_written_as_it_was_read(version: str) -> None:
    native = random_checkpoint(version)
    model = model_of(native)
    written = model.layout.write(model.weights, [block.weights for block in model.blocks])
    assert {key: t.shape for key, t in written.items()} == {key: t.shape for key, t in native.items()}
    assert all(torch.equal(written[key], native[key]) for key in native)


MODELS = {f"rwkv-{version}": lambda version=version: random_model(version) for version in VERSIONS}


@pytest.mark.shows("rwkv")
@parametrize_with_checks(MODELS)
def test_contract(check: Callable[[], None]) -> None:
    with torch.inference_mode(False):
        check()


def linear_inputs(time: int, decay: float, seed: int = 0, varying: bool = True) -> list[Tensor]:
    """Inputs of `wkv.linear` with time_decay up to `decay`."""
    g = torch.Generator().manual_seed(seed)
    r, k, v = torch.randn(3, 2, time, 3, 16, generator=g)
    time_decay = torch.rand(2 if varying else 1, time if varying else 1, 3, 16, generator=g) * (decay + 6) - 6
    return [r, k, v, -time_decay.exp().expand(-1, time, -1, -1), torch.randn(3, 16, generator=g), torch.randn(2, 3, 16, 16, generator=g)]


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("decay", [-4.0, 0.0, 8.0])
@pytest.mark.parametrize("time", [1, 2, 3, 63, 64, 65, 200])
def test_chunks_equal_the_loop(time: int, decay: float, varying: bool) -> None:
    inputs = linear_inputs(time, decay, varying=varying)
    for found, expected in zip(wkv.linear_chunked(*inputs), linear_loop(*inputs), strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize("decay", [20.0, 80.0, 1000.0])
def test_no_decay_is_too_strong(decay: float) -> None:
    out, state = wkv.linear_chunked(*linear_inputs(100, decay))
    assert torch.isfinite(out).all()
    assert torch.isfinite(state).all()


@pytest.mark.parametrize("decays", [(0.0, 1.0), (0.99, 1.0), (0.0, 0.01)], ids=["all", "fastest", "slowest"])
@pytest.mark.parametrize("time", [1, 5, 31, 32, 33, 150])
def test_delta_chunks_equal_the_loop(time: int, decays: tuple[float, float]) -> None:
    g = torch.Generator().manual_seed(time)
    r, k, v, a = torch.randn(4, 2, time, 3, 16, generator=g)
    a = torch.nn.functional.normalize(a, dim=-1)
    logw = -math.exp(-0.5) * (torch.rand(r.shape, generator=g) * (decays[1] - decays[0]) + decays[0])
    inputs = (r, logw, k, v, -a, a * torch.rand(r.shape, generator=g), torch.randn(2, 3, 16, 16, generator=g))
    for found, expected in zip(wkv.delta_chunked(*inputs), delta_loop(*inputs), strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize("time", [1, 2, 37, 64, 150])
def test_average_scan_equals_the_loop(time: int) -> None:
    g = torch.Generator().manual_seed(time)
    k, v = torch.randn(2, 2, time, 16, generator=g) * 3
    logw = -(torch.rand(1, 1, 16, generator=g) * 14 - 6).exp()
    state = torch.stack([torch.zeros(2, 16), torch.zeros(2, 16), torch.full((2, 16), wkv.EMPTY)], 1)
    (a, b, p), (c, d, q) = (f(k, v, logw, state)[:, 1:].unbind(2) for f in (wkv.average_scan, wkv.average_loop))
    assert_close(a / b, c / d)
    assert_close(p + b.log(), q + d.log())


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_cut_anywhere(version: str, data: st.DataObject) -> None:
    """A batch of texts cut in two, in different places and with nothing on one side too, gives the logits of the whole."""
    with torch.inference_mode():
        model = random_model(version)
        lengths = torch.tensor(data.draw(st.lists(st.integers(1, 70), min_size=3, max_size=3)))
        cuts = torch.stack([torch.tensor(data.draw(st.integers(0, int(n)))) for n in lengths])
        ids = tokens(model, 3)
        first, past = continued(model, ids, cuts)
        rest = torch.stack([row.roll(-int(cut)) for row, cut in zip(ids, cuts, strict=True)])
        second, _ = continued(model, rest, lengths - cuts, past)
        for row, (cut, length) in enumerate(zip(cuts, lengths, strict=True)):
            whole = model.run(ids[row : row + 1, :length])[0]
            assert_close(torch.cat([first[row, :cut], second[row, : length - cut]]), whole, 1e-5)


def continued(model: RwkvModel, ids: Tensor, lengths: Tensor, past: list | None = None) -> tuple[Tensor, list]:
    x, ctx = model.begin(ids, lengths=lengths)
    after = []
    for i in range(len(model.blocks)):
        step = model.advance(i, x, ctx, [(0, KEEP)], past[i] if past else None)
        x = step.x
        after.append(step.past)
    return model.logits(x), after


@pytest.mark.parametrize("version", VERSIONS)
def test_many_rows_give_what_each_gives(version: str) -> None:
    """More tokens than are taken at a time on a CPU."""
    model = random_model(version)
    ids = tokens(model, rows=20, time=130)
    lengths = torch.arange(111, 131)
    together = model.run(ids, lengths=lengths)
    for row in (0, 7, 19):
        assert_close(together[row, : lengths[row]], model.run(ids[row : row + 1, : lengths[row]])[0])


@pytest.mark.parametrize("version", VERSIONS)
def test_without_block_0_the_rest_sees_the_normed_embedding(version: str) -> None:
    """Removing block 0 takes out what it adds: ln0 belongs to the embedding, and RWKV-7's v_first stays."""
    model = random_model(version, blocks=3)
    ids = tokens(model)
    x, ctx = model.begin(ids)
    assert_close(
        x, torch.nn.functional.layer_norm(model.weights["embed"][ids], (32,), model.weights["embed_norm"], model.weights["embed_norm_bias"])
    )
    seen = []
    model.run(ids, Ablation(blocks=[0]), tap=lambda i, parts: seen.append(parts.x_in))
    assert torch.equal(seen[1], x)
    for i in (1, 2):
        x = model.advance(i, x, ctx, [(0, KEEP)]).x
    assert_close(model.run(ids, Ablation(blocks=[0])), model.logits(x))


def test_v_first_is_the_value_of_block_0() -> None:
    """Written out for RWKV-7: v = V (h + mix_v (h one token before - h)) with h = ln1(ln0(embedding))."""
    model = random_model("7")
    ids, w = tokens(model), model.blocks[0].weights
    x, ctx = model.begin(ids)
    h = torch.nn.functional.layer_norm(x, (32,), w["mixer_norm"], w["mixer_norm_bias"])
    before = torch.nn.functional.pad(h, (0, 0, 1, -1))
    assert_close(ctx.v_first, (h + (before - h) * w["mix_v"]) @ w["v"].T)
    assert_close(model.with_blocks(model.blocks[1:]).begin(ids)[1].v_first, ctx.v_first)


def test_rerooted_is_a_checkpoint_of_its_own() -> None:
    model = random_model("7", blocks=3)
    ids = tokens(model)
    assert model.rerooted() is model
    kept = model.with_blocks(model.blocks[1:])
    rerooted = kept.rerooted()
    assert (rerooted.run(ids) - kept.run(ids)).std() > 0.1 * kept.run(ids).std()
    written = rerooted.layout.write(rerooted.weights, [block.weights for block in rerooted.blocks])
    again = model_of(written)
    assert torch.equal(again.run(ids), rerooted.run(ids))
    assert again.spec.n_params == rerooted.spec.n_params
    assert random_model("6").rerooted().spec.variant == "6"


@pytest.mark.parametrize("version", ["4", "5.2", "6", "7"])
def test_float64_is_computed_in_float64(version: str) -> None:
    model = random_model(version)
    exact = model_of(random_checkpoint(version), dtype=torch.float64)
    assert exact.run(tokens(model)).dtype == torch.float64
    assert_close(model.run(tokens(model)).double(), exact.run(tokens(model)), 1e-5)


def test_bfloat16_keeps_decays_exact(tmp_path: Path) -> None:
    torch.save(random_checkpoint("5.2"), tmp_path / "model.pth")
    model = load(tmp_path / "model.pth", dtype="bfloat16", device="cpu")
    assert {role for role, t in model.blocks[0].weights.items() if t.dtype == torch.float32} == {"decay", "bonus"}


@pytest.mark.shows("rwkv", checkpoint="BlinkDL/rwkv-7-world")
@pytest.mark.parametrize(
    ("version", "sizes", "n_params"),
    [
        ("5.2", {"blocks": 32, "heads": 64, "d_ffn": 14336}, 7_518_044_160),
        ("7", {"blocks": 12, "heads": 12, "ranks": {"w": 64, "a": 64, "v": 32, "g": 128}}, 191_034_624),
        ("7", {"blocks": 32, "heads": 40, "ranks": {"w": 96, "a": 96, "v": 64, "g": 320}}, 2_947_735_040),
    ],
    ids=["RWKV-5-World-7B", "RWKV-7-World-0.1B", "RWKV-7-World-2.9B"],
)
def test_published_shapes(version: str, sizes: dict, n_params: int) -> None:
    weights = random_checkpoint(version, head_size=64, vocab=65536, device="meta", **sizes)
    shapes = {key: tuple(t.shape) for key, t in weights.items()}
    model = build({}, Keys(Path("published"), shapes, weights.__getitem__, torch.device("meta")), "published")
    assert model.spec.n_params == n_params
    assert {(b.n_heads, b.head_dim) for b in model.spec.blocks} == {(sizes["heads"], 64)}
    assert isinstance(model.tokenizer, WorldTokenizer)
    assert model.run(torch.zeros(1, 4, dtype=torch.long, device="meta")).shape == (1, 4, 65536)


EXTRA = {
    "DeepEmbed": "blocks.0.ffn.s_emb.weight",
    "x060a": "blocks.1.att.time_maa_rkvw_w1",
    "tiny attention": "blocks.0.tiny_ln.weight",
    "head_q": "head_q.weight",
    "position embeddings": "pos_emb_x",
    "first time-mix": "blocks.0.ffnPre.key.weight",
    "does not explain: blocks.1.att.new": "blocks.1.att.new",
}


@pytest.mark.parametrize(("name", "key"), EXTRA.items())
def test_unknown_variants_are_refused_by_name(name: str, key: str) -> None:
    with pytest.raises(StrataError, match=name):
        model_of(random_checkpoint("7") | {key: torch.zeros(2, 2)})


def test_what_published_files_hold_and_nobody_reads_is_ignored() -> None:
    weights = random_checkpoint("7")
    unused = {f"blocks.0.att.{c}": weights[f"blocks.1.att.{c}"] for c in ("v0", "v1", "v2")}
    unused |= {f"blocks.1.ln0.{part}": weights[f"blocks.0.ln0.{part}"] for part in ("weight", "bias")}
    model, other = model_of(weights), model_of(weights | unused)
    assert torch.equal(model.run(tokens(model)), other.run(tokens(model)))


FILES = {f"native-{version}": lambda version=version: random_checkpoint(version) for version in VERSIONS} | {
    "hugging-face-4": lambda: hugging_face_4(random_checkpoint("4")),
    "flash-linear-attention-7": lambda: flash_linear_attention_7(random_checkpoint("7")),
}


@pytest.mark.parametrize("layout", FILES)
def test_every_key_is_needed_and_no_other_is_taken(layout: str) -> None:
    weights = FILES[layout]()
    for key in ("new.weight", max(weights).rsplit(".", 1)[0] + ".bias2"):
        with pytest.raises(StrataError, match=f"does not explain: {key}"):
            model_of(weights | {key: torch.zeros(2, 2)})
    for key in weights:
        with pytest.raises(StrataError):
            model_of({k: t for k, t in weights.items() if k != key})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_size": 64}, "hidden_size 64, the weights say 32"),
        ({"num_hidden_layers": 3}, "num_hidden_layers 3, the weights say 2"),
        ({"vocab_size": 7}, "vocab_size"),
        ({"group_norm_eps": "small"}, "group_norm_eps"),
        ({"hidden_act": "gelu"}, "sqrelu"),
    ],
)
def test_a_configuration_that_contradicts_the_weights(config: dict, message: str) -> None:
    with pytest.raises(StrataError, match=message):
        model_of(random_checkpoint("5.2"), config)


class Code:
    def __reduce__(self) -> tuple:
        return print, ("code in a checkpoint was run",)


def test_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    weights = random_checkpoint("5.2")
    torch.save(weights | {"x": Code()}, tmp_path / "code.pth")
    with pytest.raises(StrataError, match="can run code"):
        load(tmp_path / "code.pth")
    assert "was run" not in capsys.readouterr().out
    wrong = weights | {"blocks.1.att.key.weight": torch.zeros(32, 16)}
    torch.save(wrong, tmp_path / "wrong.pth")
    with pytest.raises(StrataError, match=r"blocks.1.att.key.weight is 32 x 16"):
        load(tmp_path / "wrong.pth")
    with pytest.raises(StrataError, match="give the path of one file"):
        load(tmp_path)
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(StrataError, match="not an RWKV checkpoint"):
        build({}, open_store(tmp_path / "other.pth"), "other")


def test_a_bin_file_is_a_model_and_another_suffix_is_not(tmp_path: Path) -> None:
    weights = random_checkpoint("5.2")
    for name in ("model.bin", "model.ckpt"):
        torch.save(weights, tmp_path / name)
    model = load(tmp_path / "model.bin", device="cpu")
    assert torch.equal(model.run(tokens(model)), model_of(weights).run(tokens(model)))
    with pytest.raises(StrataError, match=r"model\.ckpt does not have the name of a weights file: expected \.pth, \.bin"):
        load(tmp_path / "model.ckpt")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    RwkvForCausalLM(RwkvConfig(vocab_size=61, hidden_size=32, num_hidden_layers=2)).save_pretrained(tmp_path, max_shard_size="20KB")
    missing = sorted(tmp_path.glob("model-*.safetensors"))[1]
    missing.unlink()
    with pytest.raises(StrataError, match=f"lacks the shard {missing.name}"):
        load(tmp_path)


def test_version_4_has_no_heads() -> None:
    model = random_model("4")
    with pytest.raises(StrataError, match="no heads"):
        Ablation(heads=[(0, 0)]).check(model.spec)
    with pytest.raises(StrataError, match="no heads"):
        model.run(tokens(model), Ablation(heads=[(0, 0)]))


TEXTS = ["", "a", "Hello world!\n\n  tabs\t.", "红楼梦 第一回", "é🏳️‍🌈\x00\x7f", " " * 200]


def test_world_tokenizer_equals_the_package() -> None:
    from rwkv import rwkv_tokenizer

    reference = rwkv_tokenizer.TRIE_TOKENIZER(str(Path(rwkv_tokenizer.__file__).parent / "rwkv_vocab_v20230424.txt"))
    tokenizer = WorldTokenizer()
    assert tokenizer.bos_id == 0
    for text in TEXTS:
        ids, ends = tokenizer.encode(text)
        assert ids == reference.encode(text)
        assert ends == [len(reference.decodeBytes(ids[: n + 1])) for n in range(len(ids))]
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode([0, *ids]) == text


def test_byte_tokenizer() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.bos_id is None
    for text in TEXTS:
        ids, ends = tokenizer.encode(text)
        assert (bytes(ids), ends) == (text.encode(), list(range(1, len(ids) + 1)))
        assert tokenizer.decode(ids) == text


def test_tokenizer_of_a_folder(tmp_path: Path) -> None:
    assert find_tokenizer(tmp_path, 50277) is None
    backend = {"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
    (tmp_path / "20B_tokenizer.json").write_text(json.dumps(backend))
    found = find_tokenizer(tmp_path, 50277)
    assert found is not None
    assert (found.bos_id, found.encode("a").ids) == (None, [0])
    assert isinstance(find_tokenizer(tmp_path, 65536), WorldTokenizer)
    with tempfile.TemporaryDirectory() as empty:
        assert isinstance(find_tokenizer(Path(empty), 256), ByteTokenizer)
