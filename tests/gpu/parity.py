"""Every family on the card against itself in fp64 on the CPU, where tests compare it with what others compute."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapters import Ablation, BlockModel, load
from adapters.families.rwkv.tokenizers import ByteTokenizer
from analysis.engine.ablations import single_ablations
from analysis.engine.decoding import Prompt, decode
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from tests.gpu.kernels import OF, SAID, kernels, without_kernels
from tests.reference import families
from tests.reference.rwkv_checkpoints import random_checkpoint
from tests.reference.variants import RWKV

LENGTHS = torch.tensor([40, 23])
DTYPES = ("float32", "bfloat16")
MOST = {"float32": 1e-5, "bfloat16": 0.1}  # root mean square error of logits over their standard deviation; a bug is off by about one
TOKENS = 6  # that are written behind each prompt, with a block and without


def section(device: torch.device, tiny: bool) -> Iterator[dict[str, Any]]:
    """A row for each family, and two for each that has kernels of its own on this machine."""
    for name in ("llama", "gpt2", "rwkv-7") if tiny else families.FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            path = save(name, Path(folder))
            expected = numbers(load(path, device="cpu", dtype="float64"))
            for used in [True, False] if kernels(name, device) else [False]:
                with nullcontext() if used else without_kernels():
                    yield row(name, path, device, expected) | {"kernels": used}


def save(name: str, folder: Path) -> Path:
    """As the other tests have it, but for heads of RWKV, which are as wide as those that kernels are made for."""
    if name not in RWKV:
        return families.save(name, folder)
    torch.save(random_checkpoint(name.removeprefix("rwkv-"), blocks=3, heads=2, head_size=64, vocab=256), folder / "model.pth")
    return folder / "model.pth"


def row(name: str, path: Path, device: torch.device, expected: Mapping[str, Tensor]) -> dict[str, Any]:
    out: dict[str, Any] = {"name": name, "model_type": families.model_type(name), "passed": True}
    for dtype in DTYPES:
        try:
            found = numbers(load(path, device=device, dtype=dtype))
        except Exception as error:  # whatever it is, it is what the table has to say
            return out | {"passed": False, "error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        logits = float((found["logits"] - expected["logits"]).square().mean().sqrt() / expected["logits"].std())
        nll = float(((found["nll"] - expected["nll"]) / (LENGTHS - 1)).abs().max())
        same = float((found["texts"] == expected["texts"]).double().mean())
        out[dtype] = {"logits": logits, "nll": nll, "texts": same}
        out["passed"] &= logits < MOST[dtype] and (dtype != "float32" or (nll < MOST[dtype] and same == 1))
    return out


def numbers(model: BlockModel) -> dict[str, Tensor]:
    """Logits, sums of a sweep of every single part, and texts with a block and without; in fp64 on the CPU."""
    ids = torch.randint(model.spec.vocab_size, (2, 40), generator=torch.Generator().manual_seed(5))
    every = plan(model.spec, single_ablations(model.spec, families.kinds(model.spec)))
    with torch.inference_mode():
        logits = model.run(ids.to(model.device)).double().cpu()
    reader = copy.copy(model)
    reader.tokenizer, reader.end_tokens = ByteTokenizer(), ()
    prompts = [Prompt(tuple(ids[d, :n].tolist()), TOKENS) for d, n in enumerate((17, 9))]
    texts = sorted(decode(reader, plan(model.spec, [Ablation(blocks={1})]), prompts))
    return {
        "logits": logits,
        "nll": sweep(model, every, ids, LENGTHS)["nll"],
        "texts": torch.tensor([text.tokens for text in texts]),
    }


def families_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """By model_type, whether all its rows passed, and by package whether those on kernels did; nothing of what was not tried as a whole."""
    names = {name: families.model_type(name) for name in families.FAMILIES}
    own, by_kernels = [row for row in rows if not row["kernels"]], [row for row in rows if row["kernels"]]
    tried = {row["name"] for row in own}
    found = {
        kind: all(row["passed"] for row in own if row["model_type"] == kind)
        for kind in dict.fromkeys(names.values())
        if {name for name, of in names.items() if of == kind} <= tried
    }
    of_package = {SAID[OF[row["name"]]] for row in by_kernels}
    return found | {said: all(row["passed"] for row in by_kernels if SAID[OF[row["name"]]] == said) for said in sorted(of_package)}
