"""Logits of a checkpoint by the loader that others read it with, in a process of its own.

Nothing that this process holds (classes, patched modules, open files) can help the checkpoint there. Run as a module:
READER PATH IDS.safetensors LOGITS.safetensors DEVICE DTYPE.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapters.checkpoints.folders import writing
from adapters.checkpoints.layout import Store
from adapters.errors import StrataError
from adapters.registry import DTYPES, FAMILIES, load
from adapters.specs import ModelSpec

NEEDS_MORE = ".qweight"  # transformers reads GPTQ files with GPTQModel alone, which replaces the torch that is installed
Reader = Callable[[Path, Tensor, str, str], Tensor]  # path, ids (D, T), device, dtype -> logits (D, T, vocab_size)


def by_transformers(path: Path, ids: Tensor, device: str, dtype: str) -> Tensor:
    """Missing keys are an error, where transformers makes random weights and warns. Ends with a generation of three tokens, greedy
    whatever generation_config.json asks for: its keys may need a tokenizer, or be for one way to generate alone."""
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    capped = getattr(AutoConfig.from_pretrained(path), "attn_logit_softcapping", None)  # the default implementation passes over it
    how = {"attn_implementation": "eager"} if capped else {}
    loaded: Any = AutoModelForCausalLM.from_pretrained(path, dtype=DTYPES[dtype], output_loading_info=True, **how)
    model, info = loaded
    wrong = {
        what: sorted(keys)[:3] for what, keys in info.items() if keys and what in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    if wrong:
        raise StrataError(f"transformers finds {wrong} in {path}: config.json and weights are not of one model, download the source again")
    model = model.to(device).eval()
    logits = model(ids, use_cache=False).logits
    model.generation_config = GenerationConfig()
    made = model.generate(ids[:1, :4], max_new_tokens=3, min_new_tokens=3, do_sample=False)
    if made.shape[1] != 7:
        raise StrataError(
            f"transformers generates {made.shape[1] - 4} tokens from {path}, 3 were requested: see whether it reads the source"
        )
    return logits


def by_rwkv(path: Path, ids: Tensor, device: str, dtype: str) -> Tensor:
    """The `rwkv` package, in fp32 on the CPU whatever is asked for: it is the reference there."""
    from rwkv.model import RWKV

    (file,) = path.glob("*.pth")
    model = RWKV(model=str(file.with_suffix("")), strategy="cpu fp32")
    return torch.stack([model.forward(row.tolist(), None, full_output=True)[0].float() for row in ids])


def by_strata(path: Path, ids: Tensor, device: str, dtype: str) -> Tensor:
    """For what nothing installed reads without code of its own: `load` of this project."""
    return load(_native(path), device=device, dtype=dtype).run(ids)


READERS: dict[str, Reader] = {"transformers": by_transformers, "rwkv": by_rwkv, "strata": by_strata}


def reader_of(spec: ModelSpec, store: Store, format: str) -> str:
    """Name in READERS of what reads the checkpoint."""
    if any(key.endswith(NEEDS_MORE) for key in store.shapes) or (spec.quantised and not find_spec("compressed_tensors")):
        return "strata"
    if FAMILIES[spec.family].stock or any(key.startswith("rwkv.blocks.") for key in store.shapes):
        return "transformers"
    return "rwkv" if format == "pth" and find_spec("rwkv") else "strata"


def stock_logits(reader: str, path: Path, ids: Tensor, device: str, dtype: str) -> Tensor:
    """Logits (D, T, vocab_size) in fp32 on the CPU. Raises StrataError, with its last line, when the process fails."""
    seven = any(key.endswith("att.r_k") for key in _keys(path)) if reader == "rwkv" else False
    environment = os.environ | {"RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0", "RWKV_V7_ON": str(int(seven)), "HF_HUB_OFFLINE": "1"}
    with writing(path), tempfile.TemporaryDirectory(dir=path.parent) as folder:  # on the disk that holds the checkpoint already
        given, made = Path(folder) / "ids.safetensors", Path(folder) / "logits.safetensors"
        save_file({"ids": ids.cpu()}, given)
        command = [sys.executable, "-m", "adapters.checkpoints.stock", reader, str(path.resolve()), str(given), str(made), device, dtype]
        done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True)
        if done.returncode < 0:
            fix = "most likely memory ran out, use a larger machine" if done.returncode == -9 else f"see whether {reader} reads the source"
            raise StrataError(f"the process that reads what was written was stopped by signal {-done.returncode}: {fix}")
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            fix = "see whether it reads the source, and install another version of it if it does not"
            raise StrataError(f"{reader} cannot read what was written ({last}): {fix}")
        return load_file(made)["logits"]


def _native(path: Path) -> Path:
    return next(iter(path.glob("*.pth")), path)


def _keys(path: Path) -> list[str]:
    return list(torch.load(_native(path), map_location="meta", weights_only=True, mmap=True))


def main() -> None:
    reader, path, given, made, device, dtype = sys.argv[1:]
    sys.argv = sys.argv[:1]  # the rwkv package reads them
    with torch.inference_mode():
        ids = load_file(given)["ids"].to(device)
        logits = READERS[reader](Path(path), ids, device, dtype)
    save_file({"logits": logits.float().cpu().contiguous()}, made)


if __name__ == "__main__":
    main()
