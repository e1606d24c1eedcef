"""Mamba, Falcon-Mamba and Mamba-2 against transformers' slow paths, and their recurrences against a loop over tokens in fp64."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters import KEEP, Ablation, BlockModel, StrataError, load
from adapters.contract import assert_close
from adapters.families.mamba import build, scan
from analysis.engine.ablations import single_ablations
from tests.adapters.published import meta
from tests.reference.models import pair
from tests.reference.parity import Pair, check_forward, parametrize_against_hf, refuses
from tests.reference.scan_loops import dual_loop, selective_loop

SMALL = {"state_size": 8, "time_step_rank": 6}
HEADS = {"state_size": 8, "num_heads": 4, "head_dim": 24, "n_groups": 1}
TINY = {"mamba": SMALL, "falcon_mamba": SMALL, "mamba2": HEADS}
ODD = {"use_bias": True, "use_conv_bias": False, "conv_kernel": 3}


@parametrize_against_hf("mamba", {"tied": SMALL | {"tie_word_embeddings": True}, "biases": SMALL | ODD})
def test_mamba(check: Callable[[], None]) -> None:
    check()


@parametrize_against_hf("falcon_mamba", {"norms inside": SMALL | {"mixer_rms_eps": 1e-3}})
def test_falcon_mamba(check: Callable[[], None]) -> None:
    check()


@parametrize_against_hf(
    "mamba2", {"one norm over all heads": HEADS, "biases and limits": HEADS | ODD | {"time_step_limit": (0.1, 1.5), "conv_kernel": 1}}
)
def test_mamba2(check: Callable[[], None]) -> None:
    check()


# As transformers holds them and passes over them: keys that only another of the three reads.
FOREIGN = {
    "mamba": {"mixer_rms_eps": 0.5, "time_step_limit": (0.1, 0.2)},
    "falcon_mamba": {"time_step_limit": (0.1, 0.2)},
    "mamba2": {"mixer_rms_eps": 0.5},
}


@pytest.mark.parametrize("model_type", TINY)
def test_keys_of_the_others_are_passed_over(model_type: str) -> None:
    check_forward(Pair(model_type, TINY[model_type] | FOREIGN[model_type]))


def inputs(time: int, channels: tuple[int, ...], decay: float, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Of a scan, with logarithms of decays down to -`decay` for a token, from one token to the next near zero or near that."""
    g = torch.Generator().manual_seed(time)
    two = len(channels) == 2
    x, b, c = (torch.randn(2, time, *shape, generator=g) for shape in (channels, (5,), (5,)))
    step = torch.rand(2, time, channels[0], generator=g) ** 8
    rate = -decay * torch.rand(channels[:1] if two else (*channels, 5), generator=g)
    state = torch.randn(2, *channels, 5, generator=g)
    return [t.to(dtype) for t in (x, step, rate, b, c, state)]


SCANS = {"selective": (scan.selective_chunked, selective_loop, (6,)), "dual": (scan.dual_chunked, dual_loop, (3, 4))}


@pytest.mark.parametrize("decay", [1.0, 30.0, 3000.0])
@pytest.mark.parametrize("time", [1, 2, 15, 16, 17, 32, 33, 100])
@pytest.mark.parametrize("name", SCANS)
def test_chunks_equal_the_loop(name: str, time: int, decay: float) -> None:
    chunked, loop, channels = SCANS[name]
    for found, expected in zip(chunked(*inputs(time, channels, decay)), loop(*inputs(time, channels, decay)), strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize("name", SCANS)
def test_in_fp64_chunks_are_the_loop(name: str) -> None:
    """Where nothing can hide in rounding; and nothing read is a state of zeros."""
    chunked, loop, channels = SCANS[name]
    given = inputs(75, channels, 4.0, torch.float64)
    for found, expected in zip(chunked(*given), loop(*given), strict=True):
        assert_close(found, expected, 1e-12)
    fresh = [*given[:-1], torch.zeros_like(given[-1])]
    assert torch.equal(chunked(*given[:-1], None)[0], chunked(*fresh)[0])


@pytest.mark.parametrize("name", SCANS)
def test_a_step_of_zero_leaves_the_state(name: str) -> None:
    chunked, _, channels = SCANS[name]
    x, step, rate, b, c, state = inputs(40, channels, 4.0)
    step[:, 13:] = 0
    assert_close(chunked(x, step, rate, b, c, state)[1], chunked(x[:, :13], step[:, :13], rate, b[:, :13], c[:, :13], state)[1])


@pytest.mark.parametrize("model_type", TINY)
def test_equals_plain_operations(model_type: str) -> None:
    """The whole model in fp64 with the loop in the place of chunks, over a text of several chunks."""
    model, _ = pair(model_type, "float64", **TINY[model_type])
    ids = torch.randint(97, (2, 130), generator=torch.Generator().manual_seed(1))
    with pytest.MonkeyPatch.context() as patch:
        found = model.run(ids)
        for name, (_, loop, _) in SCANS.items():
            patch.setattr(scan, f"{name}_chunked", lambda *given, loop=loop: loop(*given[:-1], _state(given)))
        assert_close(found, model.run(ids), 1e-10)


def _state(given: tuple) -> Tensor:
    x, _, _, b, _, state = given
    return x.new_zeros(len(x), *x.shape[2:], b.shape[-1]) if state is None else state


@pytest.mark.parametrize("model_type", TINY)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_cut_anywhere(model_type: str, data: st.DataObject) -> None:
    """A batch of texts cut in two, in different places and with nothing on one side too, gives the logits of the whole."""
    model, _ = pair(model_type, **TINY[model_type])
    lengths = torch.tensor(data.draw(st.lists(st.integers(1, 70), min_size=3, max_size=3)))
    cuts = torch.stack([torch.tensor(data.draw(st.integers(0, int(n)))) for n in lengths])
    ids = torch.randint(97, (3, 70), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        first, past = continued(model, ids, cuts)
        rest = torch.stack([row.roll(-int(cut)) for row, cut in zip(ids, cuts, strict=True)])
        second, _ = continued(model, rest, lengths - cuts, past)
        for row, (cut, length) in enumerate(zip(cuts, lengths, strict=True)):
            whole = model.run(ids[row : row + 1, :length])[0]
            assert_close(torch.cat([first[row, :cut], second[row, : length - cut]]), whole)


def continued(model: BlockModel, ids: Tensor, lengths: Tensor, past: list | None = None) -> tuple[Tensor, list]:
    x, ctx = model.begin(ids, lengths=lengths)
    after = []
    for i in range(len(model.blocks)):
        step = model.advance(i, x, ctx, [(0, KEEP)], past[i] if past else None)
        x = step.x
        after.append(step.past)
    return model.logits(x), after


@pytest.mark.parametrize("model_type", TINY)
def test_many_rows_give_what_each_gives(model_type: str) -> None:
    """More tokens than are taken at a time on a CPU."""
    model, _ = pair(model_type, **TINY[model_type])
    ids = torch.randint(97, (20, 130), generator=torch.Generator().manual_seed(2))
    lengths = torch.arange(111, 131)
    together = model.run(ids, lengths=lengths)
    for row in (0, 7, 19):
        assert_close(together[row, : lengths[row]], model.run(ids[row : row + 1, : lengths[row]])[0])


@pytest.mark.parametrize("model_type", TINY)
def test_a_block_is_its_mixer(model_type: str) -> None:
    model, _ = pair(model_type, **TINY[model_type])
    spec = model.spec
    assert single_ablations(spec, ["mixers"]) == single_ablations(spec, ["blocks"])
    assert {(b.has_ffn, b.d_ffn, b.mixer_params, b.mixer_flops) for b in spec.blocks} == {
        (False, 0, spec.blocks[0].n_params, spec.blocks[0].flops_per_token)
    }
    with pytest.raises(StrataError, match="has no ffns: use `kinds` blocks"):
        single_ablations(spec, ["ffns"])
    with pytest.raises(StrataError, match=r"block 1 .* has no ffn: ablate the block instead"):
        Ablation(ffns=[1]).check(spec)
    kind, says = ("kv_groups", "has no key-value heads: use `kinds` heads") if model_type == "mamba2" else ("heads", "has no heads")
    with pytest.raises(StrataError, match=says):
        single_ablations(spec, [kind])


@pytest.mark.parametrize("wide", [False, True])
def test_the_stream_is_in_fp32_where_it_is_said(wide: bool) -> None:
    model, reference = pair("mamba2", "bfloat16", **HEADS, residual_in_fp32=wide)
    ids = torch.arange(20)[None]
    assert model.stream(ids).dtype == model.stream_dtype == (torch.float32 if wide else torch.bfloat16)
    expected = reference.bfloat16()(ids, use_cache=False).logits
    assert (model.run(ids).float() - expected).pow(2).mean().sqrt() < 0.02 * expected.std()
    assert {role for role, t in model.blocks[0].weights.items() if t.dtype == torch.float32} == {"decay", "skip", "step_bias"}


PUBLISHED = {
    "state-spaces/mamba-130m-hf": (
        {"model_type": "mamba", "vocab_size": 50280, "hidden_size": 768, "num_hidden_layers": 24, "state_size": 16, "time_step_rank": 48},
        129_135_360,
    ),
    "tiiuae/falcon-mamba-7b": (
        {"model_type": "falcon_mamba", "vocab_size": 65024, "hidden_size": 4096, "num_hidden_layers": 64, "state_size": 16}
        | {"time_step_rank": 256, "tie_word_embeddings": False},
        7_272_665_088,
    ),
    "AntonV/mamba2-130m-hf": (
        {"model_type": "mamba2", "vocab_size": 50288, "hidden_size": 768, "num_hidden_layers": 24, "state_size": 128}
        | {"num_heads": 24, "head_dim": 64, "n_groups": 1, "tie_word_embeddings": True},
        128_989_632,
    ),
}


def published_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Keys and shapes as they lie on the hub."""
    d, state, inner = config["hidden_size"], config["state_size"], 2 * config["hidden_size"]
    shapes = {"backbone.embeddings.weight": (config["vocab_size"], d), "backbone.norm_f.weight": (d,)}
    if not config.get("tie_word_embeddings", True):
        shapes["lm_head.weight"] = (config["vocab_size"], d)
    if config["model_type"] == "mamba2":
        heads, channels = config["num_heads"], inner + 2 * state
        own = {"in_proj.weight": (inner + channels + heads, d), "norm.weight": (inner,)} | dict.fromkeys(
            ("A_log", "D", "dt_bias"), (heads,)
        )
    else:
        rank, channels = config["time_step_rank"], inner
        own = {"in_proj.weight": (2 * inner, d), "x_proj.weight": (rank + 2 * state, inner), "A_log": (inner, state), "D": (inner,)}
        own |= {"dt_proj.weight": (inner, rank), "dt_proj.bias": (inner,)}
    own |= {"conv1d.weight": (channels, 1, 4), "conv1d.bias": (channels,), "out_proj.weight": (d, inner)}
    for i in range(config["num_hidden_layers"]):
        shapes |= {f"backbone.layers.{i}.mixer.{key}": shape for key, shape in own.items()} | {f"backbone.layers.{i}.norm.weight": (d,)}
    return shapes


@pytest.mark.parametrize(
    "checkpoint", [pytest.param(name, marks=pytest.mark.shows(c["model_type"], checkpoint=name)) for name, (c, _) in PUBLISHED.items()]
)
def test_published_checkpoints(checkpoint: str) -> None:
    config, n_params = PUBLISHED[checkpoint]
    model = meta(build, config, published_shapes(config))
    assert model.spec.n_params == n_params
    assert {(b.n_heads, b.head_dim) for b in model.spec.blocks} == {(config.get("num_heads"), config.get("head_dim"))}


def test_what_is_not_supported_is_refused_by_name() -> None:
    refuses("mamba2", HEADS, "n_groups 2, which is not supported: its norm is over each group of heads", n_groups=2)
    refuses("mamba", SMALL, "hidden_act 'gelu' is not supported", hidden_act="gelu")
    refuses("mamba2", HEADS, "time_step_limit is .*, expected two numbers from zero on, ascending", time_step_limit=[0.1, 0.05])
    for wrong in ([0.1], [0.1, 0.2, 0.3]):
        refuses("mamba2", HEADS, r"time_step_limit is \(0.1.*, expected two numbers from zero on, ascending", time_step_limit=wrong)
    refuses("mamba", SMALL, "state_size is 0, expected a whole number above zero", state_size=0)
    refuses("mamba", SMALL, "layer_norm_epsilon is -1.0, expected a number from zero on", layer_norm_epsilon=-1.0)
    refuses("mamba2", HEADS, "num_hidden_layers 9999, its weights are", num_hidden_layers=9999)
    refuses("falcon_mamba", SMALL, "config.json is of another model", state_size=16)


def test_hybrids_are_refused_by_name(tmp_path: Path) -> None:
    _, reference = pair("mamba", **SMALL)
    reference.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "zamba2"}))
    with pytest.raises(StrataError, match=r"is a zamba2, a hybrid of attention and recurrences, which is not supported: use a Jamba"):
        load(tmp_path)
