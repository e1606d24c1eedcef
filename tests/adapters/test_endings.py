"""Where texts end, and what changes them, as generation_config.json and config.json say it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters import StrataError, load
from adapters.endings import endings
from tests.reference.models import save_reader


@pytest.mark.parametrize(
    ("own", "config", "expected"),
    [
        (None, {"eos_token_id": 5}, (5,)),
        ({"eos_token_id": [7, 8]}, {"eos_token_id": 5}, (7, 8)),
        ({}, {"eos_token_id": None}, ()),
        ({"eos_token_id": -1}, {}, ()),
    ],
)
def test_tokens_that_end_a_text(own: dict | None, config: dict, expected: tuple[int, ...], tmp_path: Path) -> None:
    if own is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(own))
    assert endings(tmp_path, config) == (expected, ())


def test_settings_that_change_greedy_text_are_named(tmp_path: Path) -> None:
    neutral = {"do_sample": True, "temperature": 0.6, "repetition_penalty": 1.0, "num_beams": 1, "forced_eos_token_id": None}
    (tmp_path / "generation_config.json").write_text(json.dumps(neutral))
    assert endings(tmp_path, {}) == ((), ())
    (tmp_path / "generation_config.json").write_text(json.dumps(neutral | {"repetition_penalty": 1.1, "suppress_tokens": [3]}))
    assert endings(tmp_path, {})[1] == ("repetition_penalty 1.1", "suppress_tokens [3]")


def test_what_is_no_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=r"config.json says eos_token_id '</s>', expected a token's id"):
        endings(tmp_path, {"eos_token_id": "</s>"})


def test_a_loaded_model_knows_them(tmp_path: Path) -> None:
    save_reader(tmp_path, eos_token_id=9)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [9, 11], "no_repeat_ngram_size": 3}))
    model = load(tmp_path, device="cpu")
    assert (model.end_tokens, model.alters) == ((9, 11), ("no_repeat_ngram_size 3",))
