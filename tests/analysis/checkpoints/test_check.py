"""A checkpoint against the contract and a stock loader: what holds, what differs and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adapters import StrataError
from adapters.attention import Attention
from adapters.checkpoints.stock import READERS
from adapters.contract import CHECKS
from adapters.decoder import DecoderBlock
from analysis.checkpoints import check as module
from analysis.checkpoints.check import Checked, check, some_blocks
from tests.reference import variants
from tests.reference.command_line import Strata
from tests.reference.hf import tiny

PATTERN = {"num_hidden_layers": 6, "no_rope_layers": [1, 1, 1, 0, 1, 1]}


@pytest.fixture(autouse=True)
def _in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own takes ten seconds; two tests have it."""
    if request.node.name not in ("test_the_command_says_it_in_its_exit_code", "test_native_weights_are_read_by_their_package"):
        monkeypatch.setattr(module, "stock_logits", torch.inference_mode()(lambda reader, *how: READERS[reader](*how).float()))


def of(folder: Path, model_type: str = "llama", **config: object) -> Checked:
    tiny(model_type, **config).save_pretrained(folder)
    return check(str(folder), device="cpu")


def test_a_model_that_is_computed_right(tmp_path: Path) -> None:
    found = of(tmp_path)
    assert found.same
    assert (found.model_type, found.reader, found.contract, found.parity) == ("llama", "transformers", (0, 1), (0, 1, 2))
    assert found.failed == {}
    assert 0 <= found.error < 2e-5


def test_streamed_weights_are_checked_too(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    here, there = (check(str(tmp_path), device="cpu", weights=weights) for weights in ("resident", "streamed"))
    assert here == there
    with pytest.raises(StrataError, match="weights 'lazy'"):
        check(str(tmp_path), device="cpu", weights="lazy")


def test_a_few_blocks_of_a_large_one_one_of_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 0)
    found = of(tmp_path, "smollm3", **PATTERN)
    assert found.same
    assert found.contract == found.parity == (0, 1, 3)
    assert found.error is not None


def test_of_a_large_hybrid_all_blocks_up_to_the_last_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Periods say what a block is: a file without those between would be of other blocks."""
    monkeypatch.setattr(module, "LARGE", 0)
    small = {"mamba_d_state": 4, "mamba_dt_rank": 6, "num_experts": 3, "expert_layer_period": 2, "expert_layer_offset": 1}
    found = of(tmp_path, "jamba", **small, num_hidden_layers=7, attn_layer_period=4, attn_layer_offset=3)
    assert found.same
    assert (found.contract, found.parity) == ((0, 1, 3), (0, 1, 2, 3))


def test_texts_go_beyond_windows(tmp_path: Path) -> None:
    found = of(tmp_path, "mistral", sliding_window=9, max_position_embeddings=200)
    assert found.same
    assert module.text(module.load(tmp_path, device="cpu")).shape == (2, 9 + module.TEXT)


def test_what_differs_is_said_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = DecoderBlock.ffn
    monkeypatch.setattr(DecoderBlock, "ffn", lambda self, x, ctx, past=None: (right(self, x, ctx)[0] * 1.01, None))
    found = of(tmp_path)
    assert not found.same
    assert found.failed == {}, "one that is wrong everywhere in the same way keeps the contract"
    assert found.error > 1e-3
    assert found.where == "block 0"


def test_checks_that_fail_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = DecoderBlock.project
    monkeypatch.setattr(DecoderBlock, "project", lambda self, z, heads=None: right(self, z, heads) * (1 if heads is None else 1.01))
    found = of(tmp_path)
    assert not found.same
    assert "heads" in found.failed
    assert "max error / std is" in found.failed["heads"]
    assert found.error < 2e-5


def test_without_a_stock_loader_there_is_no_parity(tmp_path: Path) -> None:
    found = check(str(variants.save("baichuan-13b", tmp_path)), device="cpu")
    assert found.same
    assert (found.reader, found.error) == ("strata", None)


def test_native_weights_are_read_by_their_package(tmp_path: Path) -> None:
    found = check(str(variants.save("rwkv-7", tmp_path)), device="cpu")
    assert found.same
    assert found.reader == "rwkv"
    assert found.error is not None


def test_a_context_that_is_too_short(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match="reads 16 tokens: the checks take 37"):
        of(tmp_path, max_position_embeddings=16)


def test_kinds_of_blocks(tmp_path: Path) -> None:
    tiny("gemma2", head_dim=12, num_hidden_layers=5, layer_types=["sliding_attention"] * 4 + ["full_attention"]).save_pretrained(tmp_path)
    model = module.load(tmp_path, device="meta")
    assert some_blocks(model) == [0, 1, 4]
    assert {block.attention.window for block in model.blocks} == {4096, None}
    assert model.blocks[0].attention != Attention()


def test_the_command_says_it_in_its_exit_code(strata: Strata, tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path / "right")
    code, said, _ = strata("check", tmp_path / "right")
    assert code == 0
    assert f"{len(CHECKS)} of {len(CHECKS)} checks hold on blocks 0 and 1" in said
    assert "logits of 3 blocks as transformers computes them: error" in said
    path = tmp_path / "right" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"clip_qkv": 8.0}))
    code, _, error = strata("check", tmp_path / "right")
    assert code == 2
    assert error.count("\n") == 1
    assert "clip_qkv 8.0, which is not supported" in error


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_fails_on_what_differs(strata: Strata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    right: Callable = DecoderBlock.ffn
    monkeypatch.setattr(DecoderBlock, "ffn", lambda self, x, ctx, past=None: (right(self, x, ctx)[0] * 1.01, None))
    tiny().save_pretrained(tmp_path)
    code, said, _ = strata("check", tmp_path, *["--json"] * as_json)
    assert code == 1
    if as_json:
        found = json.loads(said)
        assert (found["same"], found["where"], found["failed"]) == (False, "block 0", {})
    else:
        assert "differs: logits of 3 blocks as transformers computes them" in said
        assert "first in block 0" in said
