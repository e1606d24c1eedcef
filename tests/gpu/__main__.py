"""`make gpu`: what runs on this card, how exactly and how fast, in eight minutes at most. Needs torch, transformers, safetensors, numpy.

Writes adapters/gpu.json, docs/gpu.md, docs/models.md and README's sentence, which say which card it was; with --out the first two
alone, into that folder.
`python -m tests.gpu --tiny --device cpu --out FOLDER` does the same on small shapes, whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

from adapters.supported import GPU, gpu_sentence, page, rows
from tests.gpu import kernels, parity, rwkv, sweeps
from tests.gpu.page import table
from tests.gpu.timing import collect

DOCS = Path(__file__).parents[2] / "docs"
SECONDS = 450  # of the eight minutes; torch is imported and a card given back in the others
SECTIONS = {"parity": parity.section, "sweeps": sweeps.section, "rwkv": rwkv.section}  # (device, tiny) -> rows, as they are found


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description="What runs on this card, how exactly and how fast.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes, whose figures mean nothing")
    parser.add_argument("--out", type=Path, help="folder for gpu.json and gpu.md, in the place of the project's own")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"what is not found in them is left out ({SECONDS})")
    asked = parser.parse_args(words)
    on_card = torch.device(asked.device).type == "cuda"
    if asked.out is None and (asked.tiny or not on_card):
        parser.error("only whole shapes on a card are recorded: give --out")
    if on_card and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device: install a CUDA build of torch, or give --device cpu, --tiny and --out")
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    record, page_path = (asked.out / "gpu.json", asked.out / "gpu.md") if asked.out else (GPU, DOCS / "gpu.md")
    found, said = about(asked.device, on_card), gpu_sentence()
    start = time.monotonic()
    for name, section in SECTIONS.items():
        found[name] = []
        collect(section(torch.device(asked.device), asked.tiny), found[name], start + asked.seconds)
        found["seconds"] = round(time.monotonic() - start)
        found["families"] = parity.families_of(found["parity"])
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        page_path.write_text(table(found), encoding="utf-8")
        print(f"{name}: {len(found[name])} rows after {found['seconds']} s", flush=True)
    if asked.out is None:
        (DOCS / "models.md").write_text(page(rows()), encoding="utf-8")
        readme = DOCS.with_name("README.md")
        readme.write_text(readme.read_text(encoding="utf-8").replace(said, gpu_sentence()), encoding="utf-8")


def about(device: str, on_card: bool) -> dict[str, Any]:
    card = torch.cuda.get_device_name(device) if on_card else "CPU"
    memory = torch.cuda.mem_get_info(device)[1] if on_card else 0
    versions = {"torch": torch.__version__, "transformers": transformers.__version__} | kernels.installed()
    return {"card": card, "memory": memory, "date": datetime.now(UTC).date().isoformat(), "versions": versions}


if __name__ == "__main__":
    main()
