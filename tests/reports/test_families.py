"""The notebooks on depth and width run on every family of decoders."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.execute import execute
from tests.reports.conftest import save_tiny

ROOT = Path(__file__).parents[2]
GEMMA = {"head_dim": 12, "query_pre_attn_scalar": 7, "sliding_window": 9}
TYPES: dict[str, dict] = {
    "gpt_neox": {},
    "gpt2": {},
    "olmo": {"clip_qkv": 0.7},
    "olmo2": {},
    "gemma2": GEMMA,
    "gemma3_text": GEMMA,
    "phi": {},
    "opt": {"ffn_dim": 80},
    "phi3": {"sliding_window": 9},
    "stablelm": {"use_parallel_residual": True},
    "starcoder2": {"sliding_window": 9},
    "falcon": {"ffn_hidden_size": 80, "alibi": True},
    "cohere": {"use_qk_norm": True},
    "gptj": {"rotary_dim": 8, "n_inner": 80},
    "glm4": {"head_dim": 12},
    "granite": {"residual_multiplier": 0.4, "attention_multiplier": 0.3},
    "smollm3": {"no_rope_layers": [1, 0, 1]},
}


@pytest.mark.long
@pytest.mark.parametrize("model_type", TYPES)
def test_depth_and_width(model_type: str, prose: Path, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / model_type, prose, model_type, **TYPES[model_type])
    chosen = {"model": str(folder), "corpus": str(prose), "documents": 12, "window": 24, "out": str(tmp_path / "runs"), "device": "cpu"}
    made = execute([ROOT / "notebooks" / f"{name}.ipynb" for name in ("depth", "width")], tmp_path / "out", chosen)
    assert [path.stem for path in made] == ["depth", "width"]
