"""Logits of the `rwkv` package, and its likeliest tokens, in a process of its own: its version and options are globals of the module.

Run as a script on paths without suffix: PATH.pth and PATH.ids become PATH.logits, or with PATH.new, their number, PATH.tokens.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor


def package_logits(jobs: list[tuple[dict[str, Tensor], Tensor]], folder: Path) -> list[Tensor]:
    """Logits (T, vocab) of each (native weights, ids (T,)); all weights of one version, 7 or before 7."""
    for i, (weights, ids) in enumerate(jobs):
        torch.save(weights, folder / f"{i}.pth")
        torch.save(ids, folder / f"{i}.ids")
    _run([weights for weights, _ in jobs], folder)
    return [torch.load(folder / f"{i}.logits") for i in range(len(jobs))]


def package_tokens(weights: dict[str, Tensor], prompts: list[tuple[int, ...]], n: int, folder: Path) -> list[list[int]]:
    """The `n` likeliest tokens behind each prompt, one after the other."""
    torch.save(weights, folder / "0.pth")
    torch.save(prompts, folder / "0.ids")
    torch.save(n, folder / "0.new")
    _run([weights], folder)
    return torch.load(folder / "0.tokens")


def _run(weights: list[dict[str, Tensor]], folder: Path) -> None:
    seven = {"blocks.0.att.r_k" in each for each in weights}
    assert len(seven) == 1, "the package cannot hold RWKV-7 and an earlier version in one process"
    environment = os.environ | {"RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0", "RWKV_V7_ON": str(int(seven.pop()))}
    command = [sys.executable, __file__, *(str(folder / str(i)) for i in range(len(weights)))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    sys.argv, paths = sys.argv[:1], sys.argv[1:]
    from rwkv.model import RWKV

    gc.freeze()  # the package collects garbage for every block that it loads, each time through all of torch
    torch.set_num_threads(1)
    with torch.inference_mode():
        for path in paths:
            if Path(path + ".new").exists():
                model, tokens = RWKV(model=path, strategy="cpu fp32"), []
                for prompt in torch.load(path + ".ids"):
                    logits, state = model.forward(list(prompt), None)
                    tokens.append([int(logits.argmax())])
                    for _ in range(torch.load(path + ".new") - 1):
                        logits, state = model.forward(tokens[-1][-1:], state)
                        tokens[-1].append(int(logits.argmax()))
                torch.save(tokens, path + ".tokens")
                continue
            ids = torch.load(path + ".ids").tolist()
            logits, _ = RWKV(model=path, strategy="cpu fp32").forward(ids, None, full_output=True)
            torch.save(logits.float().clone(), path + ".logits")
