"""`make bench`: writes reports/benchmarks.md, a section for each module. Ratios within one run are what counts.

`python -m tests.benchmarks sweeps rwkv` times these sections again, and keeps the others as they are.
"""

from __future__ import annotations

import platform
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from adapters import BlockModel, load
from adapters.catalogue import PACKAGES
from adapters.registry import locate
from analysis.data.batches import Text, encode
from tests.benchmarks import control, generation, importance, removal, rwkv, scaling, streaming, sweeps, tasks

OUT = Path(__file__).parents[2] / "reports" / "benchmarks.md"
# rwkv changes settings of torch: last
SECTIONS = {
    "sweeps": sweeps,
    "streaming": streaming,
    "control": control,
    "importance": importance,
    "removal": removal,
    "tasks": tasks,
    "generation": generation,
    "scaling": scaling,
    "rwkv": rwkv,
}
WINDOW = 128
DOCUMENTS = 32


def main(names: list[str]) -> None:
    model, foreign = _models("cuda" if torch.cuda.is_available() else "cpu")
    ids = _ids(model)
    found = _sections(OUT.read_text()) if OUT.exists() else {}
    for name in [name for name in SECTIONS if name in (names or SECTIONS)]:
        found[name] = SECTIONS[name].section(model, foreign, ids).strip()
        print(found[name], flush=True)
        OUT.write_text("\n\n".join([_opening(model), *(found[name] for name in SECTIONS if name in found)]) + "\n")


def _models(device: str) -> tuple[BlockModel, LlamaForCausalLM]:
    """SmolLM2 as ours and as Hugging Face's; random weights of its shape where there is nothing but torch and transformers."""
    with TemporaryDirectory() as folder:
        source = "smollm2" if find_spec(PACKAGES["smollm2"].module) else _random(Path(folder))
        _, checkpoint = locate(source, None)
        foreign = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).to(device).eval()
        return load(source, device=device, dtype="float32"), foreign


def _random(folder: Path) -> str:
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def _ids(model: BlockModel) -> Tensor:
    """Real text where the model reads text: (DOCUMENTS, WINDOW)."""
    if model.tokenizer is None:
        return torch.randint(model.spec.vocab_size, (DOCUMENTS, WINDOW), device=model.device)
    windows = Text(window=WINDOW + 8, documents=DOCUMENTS).windows(model)
    return encode(windows, model.tokenizer).ids[:, :WINDOW].to(model.device)


def _opening(model: BlockModel) -> str:
    machine = f"{platform.system()} {platform.machine()}, {model.device.type}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    name = "SmolLM2-135M" if model.tokenizer else "Random weights of the shape of SmolLM2-135M"
    return f"""# Benchmarks

{name}, float32, windows of {WINDOW} tokens, where nothing else is said. {machine}.

Contenders of a section take turns in one process, and the best of three rounds counts. `make bench` writes this file;
`python -m tests.benchmarks {" ".join(SECTIONS)}` names sections to time again."""


def _sections(document: str) -> dict[str, str]:
    """By module, whose title is the section's heading."""
    parts = {part.partition("\n")[0]: f"## {part.strip()}" for part in re.split(r"^## ", document, flags=re.MULTILINE)[1:]}
    return {name: parts[module.TITLE] for name, module in SECTIONS.items() if module.TITLE in parts}


if __name__ == "__main__":
    if unknown := set(sys.argv[1:]) - set(SECTIONS):
        sys.exit(f"unknown sections {', '.join(sorted(unknown))}: expected some of {', '.join(SECTIONS)}")
    main(sys.argv[1:])
