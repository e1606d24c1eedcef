"""`make bench`: writes reports/benchmarks.md. Ratios within one run are what counts; seconds are this machine's."""

from __future__ import annotations

import platform
from pathlib import Path

import pandas as pd
import torch
from transformers import AutoModelForCausalLM

from adapters import load
from adapters.catalogue import MODELS, PACKAGES, converted_gguf
from analysis.study import Text
from analysis.texts import encode, tokenizer_of
from tests.benchmarks import sweeps
from tests.benchmarks.timing import load_average

OUT = Path(__file__).parents[2] / "reports" / "benchmarks.md"


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load("smollm2", device=device, dtype="float32")
    folder = converted_gguf(PACKAGES["smollm2"].folder("smollm2") / MODELS["smollm2"])
    foreign = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    windows = Text(window=sweeps.WINDOW + 8, documents=max(sweeps.BATCHES)).windows(model)
    ids = encode(windows, tokenizer_of(model)).ids[:, : sweeps.WINDOW].to(device)
    start = load_average()
    table = pd.DataFrame(sweeps.bench(model, foreign, ids))
    print(table.T.to_string())
    OUT.write_text(_document(table, device, start))
    print(f"wrote {OUT.relative_to(Path.cwd())}")


def _document(table: pd.DataFrame, device: str, start: str) -> str:
    main_columns = [c for c in table if c not in ("raw seconds", "load")]
    machine = f"{platform.system()} {platform.machine()}, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    return f"""# Benchmarks

SmolLM2-135M, float32, windows of {sweeps.WINDOW} tokens. {machine}. Load average before the run: {start}.

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
