"""RWKV-5.2 forward: 12 blocks, width 512, 1,024 tokens, against the `rwkv` package and against its own matrix products."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import BlockModel, load
from tests.benchmarks.timing import best, load_average
from tests.reference.rwkv_checkpoints import random_checkpoint

TITLE = "RWKV"
BLOCKS, HEADS, HEAD_SIZE, D_FFN, VOCAB, TOKENS, ROWS = 12, 8, 64, 1792, 4096, 1024, 8


def section(*_: object) -> str:
    """Markdown. To be called last: importing the package changes settings of torch."""
    if find_spec("rwkv") is None:
        return f"\n## {TITLE}\n\nNot measured: the `rwkv` package is not installed.\n"
    table = pd.DataFrame([bench()])
    return f"""
## {TITLE}

A forward pass of RWKV-5.2 with random weights: {BLOCKS} blocks, width {HEADS * HEAD_SIZE}, a vocabulary of {VOCAB:,}, {TOKENS:,}
tokens, float32 on the CPU with {torch.get_num_threads()} threads. The package is `rwkv` {version("rwkv")} with TorchScript; it takes one
row at a time, and the best of five rounds counts. The floor is the products with the model's own weights at the same rows and
nothing between them.

{table.to_markdown(index=False)}
"""


def bench() -> dict[str, str]:
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):  # the package prints a line for each weight
        sizes = {"blocks": BLOCKS, "heads": HEADS, "head_size": HEAD_SIZE, "d_ffn": D_FFN, "vocab": VOCAB}
        torch.save(random_checkpoint("5.2", **sizes), Path(folder) / "model.pth")
        model, package = load(Path(folder) / "model.pth", device="cpu", dtype="float32"), _package(Path(folder) / "model")
    ids = torch.randint(VOCAB, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    rows = [row.tolist() for row in ids]
    contenders: dict[str, Callable[[], object]] = {
        "ours": lambda: model.run(ids[:1]),
        "package": lambda: package(rows[0]),
        "products": lambda: _products(model, 1),
        f"ours {ROWS}": lambda: model.run(ids),
        f"package {ROWS}": lambda: [package(row) for row in rows],
    }
    with torch.inference_mode():
        error = (model.run(ids[:1])[0] - package(rows[0])).abs().max() / package(rows[0]).std()
        times = best(contenders, rounds=5)
    assert error < 1e-3, f"the package gives other logits: max error / std is {error:.0e}"
    return {
        "package / ours, 1 row": f"{times['package'] / times['ours']:.2f}",
        "ours / floor, 1 row": f"{times['ours'] / times['products']:.2f}",
        f"package / ours, {ROWS} rows": f"{times[f'package {ROWS}'] / times[f'ours {ROWS}']:.2f}",
        "raw seconds": ", ".join(f"{name} {seconds:.3f}" for name, seconds in times.items()),
        "load": load_average(),
    }


def _package(path: Path) -> Callable[[list[int]], Tensor]:
    """Logits of all tokens of one text, with the package's TorchScript, its fastest form on a CPU."""
    os.environ |= {"RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0", "RWKV_V7_ON": "0"}
    from rwkv.model import RWKV

    model = RWKV(model=str(path), strategy="cpu fp32")
    return lambda ids: model.forward(ids, None, full_output=True)[0]


def _products(model: BlockModel, rows: int) -> None:
    """The products with weights, and nothing between them."""
    inputs = {n: torch.zeros(rows, TOKENS, n) for n in (HEADS * HEAD_SIZE, D_FFN)}
    matrices = [w for block in model.blocks for w in block.weights.values() if w.dim() == 2 and min(w.shape) >= HEADS * HEAD_SIZE]
    for weight in (*matrices, model.weights["unembed"]):
        F.linear(inputs[weight.shape[1]], weight)
