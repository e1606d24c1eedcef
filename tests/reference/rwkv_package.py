"""Logits of the `rwkv` package, in a process of its own: its version and options are globals of the module.

Run as a script on paths without suffix: PATH.pth and PATH.ids become PATH.logits.
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
    seven = {"blocks.0.att.r_k" in weights for weights, _ in jobs}
    assert len(seven) == 1, "the package cannot hold RWKV-7 and an earlier version in one process"
    for i, (weights, ids) in enumerate(jobs):
        torch.save(weights, folder / f"{i}.pth")
        torch.save(ids, folder / f"{i}.ids")
    environment = os.environ | {"RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0", "RWKV_V7_ON": str(int(seven.pop()))}
    command = [sys.executable, __file__, *(str(folder / str(i)) for i in range(len(jobs)))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{i}.logits") for i in range(len(jobs))]


if __name__ == "__main__":
    sys.argv, paths = sys.argv[:1], sys.argv[1:]
    from rwkv.model import RWKV

    gc.freeze()  # the package collects garbage for every block that it loads, each time through all of torch
    torch.set_num_threads(1)
    with torch.inference_mode():
        for path in paths:
            ids = torch.load(path + ".ids").tolist()
            logits, _ = RWKV(model=path, strategy="cpu fp32").forward(ids, None, full_output=True)
            torch.save(logits.float().clone(), path + ".logits")
