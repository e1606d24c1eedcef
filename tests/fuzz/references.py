"""Logits of model folders by others: transformers, and a slow implementation of Baichuan."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from adapters import load
from tests.fuzz.verdicts import Unread
from tests.reference import baichuan

IDS = torch.arange(20)[None] % 50
FLOATS = "floats.of-gptq"  # beside a quantised model the weights that it stands for; its ending is one that nothing reads
EPSILONS = ("norm_eps", "layer_norm_epsilon", "group_norm_eps")


def transformers_logits(folder: Path) -> Tensor:
    """Raises Unread where weights are left over or made up."""
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, trust_remote_code=False, local_files_only=True, attn_implementation="eager"
    )
    if wrong := {key: info[key] for key in ("missing_keys", "mismatched_keys", "unexpected_keys", "error_msgs") if info.get(key)}:
        raise Unread(str(wrong))
    return model.eval()(IDS, use_cache=False).logits


def baichuan_logits(folder: Path) -> Tensor:
    """Of the 7B kind are those with max_position_embeddings, of the second version those with normed heads or a loss on z."""
    config = json.loads((folder / "config.json").read_text())
    if config["hidden_act"] != "silu":
        raise Unread(f"hidden_act {config['hidden_act']}")
    alibi, norm_head = "max_position_embeddings" not in config, config.get("norm_head", "z_loss_weight" in config)
    logits = baichuan.naive(config, load_file(folder / "model.safetensors"), IDS, alibi=alibi, norm_head=norm_head)[0]
    if logits.shape != (*IDS.shape, config["vocab_size"]):
        raise Unread("a weight has an axis more, which spreads over the logits")
    return logits


def gptq_logits(folder: Path) -> Tensor:
    """Those of transformers with the weights that the quantised ones stand for."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization_config")
    with tempfile.TemporaryDirectory() as floats:
        (Path(floats) / "config.json").write_text(json.dumps(config))
        shutil.copy(folder / FLOATS, Path(floats) / "model.safetensors")
        return transformers_logits(Path(floats))


def rwkv_logits(folder: Path) -> Tensor:
    """What no other reader of these formats takes from config.json is an epsilon: Strata's own, with those and nothing else."""
    config = json.loads((folder / "config.json").read_text())
    kept = {key: config[key] for key in ("model_type", *EPSILONS) if key in config}
    with tempfile.TemporaryDirectory() as clean:
        (Path(clean) / "config.json").write_text(json.dumps(kept))
        (weights,) = folder.glob("*.safetensors")
        shutil.copy(weights, Path(clean) / weights.name)
        return load(clean, device="cpu", dtype="float32").run(IDS)
