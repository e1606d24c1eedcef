"""What transformers makes of a checkpoint, for the check of what was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adapters.checkpoints.stock import by_transformers
from tests.reference.hf import tiny


@pytest.mark.parametrize(
    "keys",
    [
        {"return_dict_in_generate": True},
        {"stop_strings": ["."]},
        {"token_healing": True},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"dola_layers": "low"},
        {"exponential_decay_length_penalty": [1, 2.0]},
        {"max_time": 0.0},
        {"eos_token_id": [0, 1], "temperature": 0.6, "do_sample": True},
    ],
    ids=str,
)
def test_keys_of_generation_config_that_transformers_reads(keys: dict, tmp_path: Path) -> None:
    reference = tiny()
    reference.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps(keys))
    ids = torch.arange(8)[None]
    with torch.inference_mode():
        assert torch.allclose(by_transformers(tmp_path, ids, "cpu", "float32"), reference(ids).logits)
