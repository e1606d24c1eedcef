"""A model of the shape of Llama-2-7B with random weights, in two shards, written piece by piece; and what is measured on it.

`python -m tests.reference.big write FOLDER`, `... sweep FOLDER`, `... importance FOLDER` (both streamed, with what that took as JSON),
`... compare FOLDER` (streamed and resident), on documents of 64 tokens or of as many as a third word says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig

from adapters import load
from analysis.engine.ablations import single_ablations
from analysis.engine.passes import weights_read
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from analysis.metrics.metrics import measure
from tests.reference.sizes import LLAMA_2_7B

SHARDS = 2


def write(folder: Path, *, first: int | None = None, **sizes: int) -> Path:
    """config.json and SHARDS files in bf16; with `first`, of a model that has the first blocks alone. Numbers depend on key and size."""
    config = LLAMA_2_7B | {"tie_word_embeddings": False, "rms_norm_eps": 1e-5} | sizes
    if first is not None:
        config["num_hidden_layers"] = first
    folder.mkdir(parents=True, exist_ok=True)
    LlamaConfig(**config, dtype="bfloat16").save_pretrained(folder)
    keys = [*_shapes(config)]
    weight_map = {}
    for shard in range(SHARDS):
        name = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        mine = dict(keys[len(keys) * shard // SHARDS : len(keys) * (shard + 1) // SHARDS])
        _write_shard(folder / name, mine)
        weight_map |= dict.fromkeys(mine, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def _shapes(config: dict) -> Iterator[tuple[str, tuple[int, ...]]]:
    d, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    yield "model.embed_tokens.weight", (vocab, d)
    for i in range(config["num_hidden_layers"]):
        block = f"model.layers.{i}."
        yield from ((f"{block}{norm}.weight", (d,)) for norm in ("input_layernorm", "post_attention_layernorm"))
        yield from ((f"{block}self_attn.{name}_proj.weight", (d, d)) for name in "qkvo")
        yield from ((f"{block}mlp.{name}_proj.weight", (ffn, d)) for name in ("gate", "up"))
        yield f"{block}mlp.down_proj.weight", (d, ffn)
    yield "model.norm.weight", (d,)
    yield "lm_head.weight", (vocab, d)


def _write_shard(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Safetensors by hand, since its own writer wants all tensors at once."""
    header, end = {}, 0
    for key, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key, shape in shapes.items():
            file.write(_numbers(key, shape).view(torch.uint8).numpy().data)


def _numbers(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Norms near one, matrices small enough that blocks change the stream without drowning it."""
    generator = torch.Generator().manual_seed(sum(key.encode()))
    if len(shape) == 1:
        return (1 + 0.1 * torch.randn(shape, generator=generator)).to(torch.bfloat16)
    scale = 0.5 if "embed" in key else shape[1] ** -0.5
    return (scale * torch.randn(shape, generator=generator)).to(torch.bfloat16)


DOCUMENTS, TIME = 2, 64


def measured(what: str, folder: Path, time: int) -> dict[str, Any]:
    """Sums of one study, bytes of weights read and planned, and the most memory that this process has held."""
    model = load(folder, device="cpu", dtype="float32", weights="streamed")
    reader, found = model.reader, dict[str, Any]()
    assert reader is not None
    before, lengths = reader.bytes_read, torch.full((DOCUMENTS,), time)
    if what == "sweep":
        work = plan(model.spec, single_ablations(model.spec, ["blocks"]))
        found["sums"] = {name: sums.tolist() for name, sums in sweep(model, work, _ids(time), lengths).items()}
        found["planned"] = weights_read(model, work, DOCUMENTS, DOCUMENTS, time, None, True)
    else:
        found["sums"] = {name: sums.tolist() for name, sums in measure(model, _ids(time), lengths).items()}
        found["planned"] = reader.bytes_of(range(len(model.blocks)))
    return found | {"read": reader.bytes_read - before, "most_held": _status("VmHWM"), "of_files": _status("RssFile")}


def compared(folder: Path, time: int) -> dict[str, Any]:
    """Sums of a block sweep, streamed and resident, one model at a time."""
    return {weights: _swept(folder, time, weights) for weights in ("streamed", "resident")}


def _swept(folder: Path, time: int, weights: str) -> dict[str, Any]:
    model = load(folder, device="cpu", dtype="float32", weights=weights)
    work = plan(model.spec, single_ablations(model.spec, ["blocks"]))
    return {name: sums.tolist() for name, sums in sweep(model, work, _ids(time), torch.full((DOCUMENTS,), time)).items()}


def _ids(time: int) -> torch.Tensor:
    return torch.randint(0, 32000, (DOCUMENTS, time), generator=torch.Generator().manual_seed(0))


def _status(name: str) -> int:
    """Bytes, by the kernel (Linux)."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return next(int(words[1]) << 10 for words in lines if words[0] == name + ":")


if __name__ == "__main__":
    what, place, time = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else TIME
    if what == "write":
        write(place)
    else:
        print(json.dumps(compared(place, time) if what == "compare" else measured(what, place, time)))
