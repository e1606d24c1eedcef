"""`make bench`: writes reports/benchmarks.md. Ratios within one run are what counts; seconds are this machine's."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from adapters import BlockModel, load
from adapters.catalogue import PACKAGES
from adapters.registry import locate
from analysis.study import Text
from analysis.texts import encode
from tests.benchmarks import rwkv, sweeps
from tests.benchmarks.timing import load_average

OUT = Path(__file__).parents[2] / "reports" / "benchmarks.md"


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    start = load_average()
    with TemporaryDirectory() as folder:
        source = "smollm2" if find_spec(PACKAGES["smollm2"].module) else _random(Path(folder))
        model = load(source, device=device, dtype="float32")
        _, checkpoint = locate(source, None)
        foreign = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).to(device).eval()
    table = pd.DataFrame(sweeps.bench(model, foreign, _ids(model)))
    print(table.T.to_string())
    OUT.write_text(_document(table, model, start) + rwkv.section())
    print(f"wrote {OUT.relative_to(Path.cwd())}")


def _random(folder: Path) -> str:
    """Random weights of SmolLM2's shape, for a machine that has nothing but torch and transformers."""
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def _ids(model: BlockModel) -> torch.Tensor:
    """Real text where the model reads text: (documents, WINDOW)."""
    documents = max(sweeps.BATCHES)
    if model.tokenizer is None:
        return torch.randint(model.spec.vocab_size, (documents, sweeps.WINDOW), device=model.device)
    windows = Text(window=sweeps.WINDOW + 8, documents=documents).windows(model)
    return encode(windows, model.tokenizer).ids[:, : sweeps.WINDOW].to(model.device)


def _document(table: pd.DataFrame, model: BlockModel, start: str) -> str:
    main_columns = [c for c in table if c not in ("raw seconds", "load")]
    machine = f"{platform.system()} {platform.machine()}, {model.device.type}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    name = "SmolLM2-135M" if model.tokenizer else "Random weights of the shape of SmolLM2-135M"
    return f"""# Benchmarks

{name}, float32, windows of {sweeps.WINDOW} tokens. {machine}. Load average before the run: {start}.

The naive loop deletes the block (or zeroes the head at the input of the output projection) in Hugging Face's model and runs
the whole of it again; its figure is the best of batches of {", ".join(map(str, sweeps.BATCHES))} documents, timed on {sweeps.SAMPLED}
of the ablations, since they share no work. The floor is the plan's operations at the rate of the best plain forward pass with
head and log-softmax, at the same batches. All contenders take turns; the best of three rounds counts.

{table[main_columns].to_markdown(index=False)}

Raw times of one round's best, in seconds (`naive n`: {sweeps.SAMPLED} ablations on n documents; `forward n`: n documents;
`sweep`: {sweeps.DOCUMENTS["blocks"]} documents for blocks, {sweeps.DOCUMENTS["heads"]} for heads), and the load average behind each:

{table[["sweep", "raw seconds", "load"]].to_markdown(index=False)}

Peak memory is what a sweep adds to what the process holds with the model loaded.
"""


if __name__ == "__main__":
    main()
