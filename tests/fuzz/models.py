"""Tiny models of every family as folders, and whether what is read from one is what others say of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import RwkvConfig, RwkvForCausalLM

from adapters import load
from tests.fuzz.references import FLOATS, IDS, baichuan_logits, gptq_logits, transformers_logits
from tests.fuzz.verdicts import Wrong
from tests.reference import baichuan
from tests.reference.gptq import save_gptq
from tests.reference.hf import tiny
from tests.reference.rwkv_checkpoints import VERSIONS, flash_linear_attention_7, random_checkpoint

TOLERANCE = 1e-3  # largest error over the standard deviation; mutants may be badly conditioned

Reference = Callable[[Path], Tensor]  # logits of a folder; whatever it raises, it does not read it


class Model(NamedTuple):
    logits: Tensor  # before anything is mutated
    reference: Reference | None  # None: those are to stay


def _llama(folder: Path, model_type: str = "llama", shard: str = "1GB", **config: object) -> None:
    tiny(model_type, **config).save_pretrained(folder, max_shard_size=shard)


def _roped(folder: Path, rope_type: str, **more: object) -> None:
    _llama(folder, rope_parameters={"rope_type": rope_type, "rope_theta": 1e4, "factor": 2.0, **more})


def _bin(folder: Path) -> None:
    _llama(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _baichuan(folder: Path, name: str) -> None:
    baichuan.save(folder, *baichuan.tiny(**baichuan.KINDS[name]))


def _rwkv(folder: Path, version: str) -> None:
    torch.save(random_checkpoint(version), folder / "m.pth")


def _rwkv_safetensors(folder: Path, version: str) -> None:
    save_file({key: tensor.contiguous() for key, tensor in random_checkpoint(version).items()}, folder / "m.safetensors")
    (folder / "config.json").write_text(json.dumps({"context_length": 64, "dtype": "float32"}))


def _rwkv_fla(folder: Path) -> None:
    weights = flash_linear_attention_7(random_checkpoint("7"))
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, folder / "model.safetensors")
    sizes = {"hidden_size": 32, "vocab_size": 61, "num_hidden_layers": 2, "norm_eps": 1e-5, "head_dim": 16}
    (folder / "config.json").write_text(json.dumps({"model_type": "rwkv7", "hidden_act": "sqrelu", **sizes}))


def _rwkv_hugging_face(folder: Path) -> None:
    torch.manual_seed(0)
    RwkvForCausalLM(RwkvConfig(vocab_size=61, hidden_size=32, num_hidden_layers=2, rescale_every=0)).save_pretrained(folder)


def _gptq(folder: Path) -> None:
    model = save_gptq(folder, sym=False, desc_act=True)
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items() if key != "lm_head.weight"}, folder / FLOATS)


LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
LONG = {"short_factor": [1.0] * 6, "long_factor": [2.0] * 6, "original_max_position_embeddings": 32}
MODELS: dict[str, tuple[Callable[[Path], None], Reference | None]] = {
    "llama": (_llama, transformers_logits),
    "mistral": (partial(_llama, model_type="mistral", sliding_window=30), transformers_logits),
    "qwen2": (partial(_llama, model_type="qwen2"), transformers_logits),
    "qwen3": (partial(_llama, model_type="qwen3", head_dim=12), transformers_logits),
    "llama-tied": (partial(_llama, tie_word_embeddings=True), transformers_logits),
    "llama-sharded": (partial(_llama, shard="30KB"), transformers_logits),
    "llama-linear": (partial(_roped, rope_type="linear"), transformers_logits),
    "llama-dynamic": (partial(_roped, rope_type="dynamic"), transformers_logits),
    "llama-yarn": (partial(_roped, rope_type="yarn", original_max_position_embeddings=32), transformers_logits),
    "llama-llama3": (partial(_roped, rope_type="llama3", **LLAMA3), transformers_logits),
    "llama-longrope": (partial(_roped, rope_type="longrope", **LONG), transformers_logits),
    "llama-bin": (_bin, transformers_logits),
    **{name: (partial(_baichuan, name=name), baichuan_logits) for name in baichuan.KINDS},
    **{f"rwkv-{version}": (partial(_rwkv, version=version), None) for version in VERSIONS},
    **{f"rwkv-{version}-safetensors": (partial(_rwkv_safetensors, version=version), None) for version in ("4", "6", "7")},
    "rwkv-fla": (_rwkv_fla, None),
    "rwkv-hugging-face": (_rwkv_hugging_face, transformers_logits),
    "gptq": (_gptq, gptq_logits),
}


def make(root: Path, names: list[str]) -> dict[str, Model]:
    """Writes the models of these names, each in its folder."""
    found = {}
    for name in names:
        save, reference = MODELS[name]
        (root / name).mkdir()
        save(root / name)
        found[name] = Model(logits(root / name), reference)
    return found


@torch.no_grad()
def logits(folder: Path) -> Tensor:
    return load(folder, device="cpu", dtype="float32").run(IDS)


@torch.no_grad()
def judge(folder: Path, base: Model, documented: Callable[[Path, str], str] = lambda folder, why: "") -> tuple[str, str]:
    """The logits of a folder against its reference; `documented` says why they may differ where that does not read it."""
    got = logits(folder)
    try:
        want, why = (base.logits, "") if base.reference is None else (base.reference(folder), "")
    except Exception as error:  # of transformers, which has many
        want, why = base.logits, f"{type(error).__name__}: {error}"
    if same(got, want):
        return ("as before" if why else "right"), why
    if base.reference and not why:
        raise Wrong(f"logits are off by {_error(got, want)} standard deviations")
    if reason := documented(folder, why):
        return "documented", reason
    raise Wrong(
        f"logits are off by {_error(got, base.logits)} standard deviations from those before; the reference says {why or 'nothing'}"
    )


def same(got: Tensor, want: Tensor) -> bool:
    return _error(got, want) <= TOLERANCE


def _error(got: Tensor, want: Tensor) -> float:
    """Largest error in standard deviations of what is wanted; of numbers that are all alike, as they are."""
    if got.shape != want.shape:
        return float("inf")
    return float((got.double() - want.double()).abs().max()) / (float(want.double().std()) or 1.0)
