"""reports/fuzzing.md: how many broken inputs were read, and how each ended."""

from __future__ import annotations

import datetime
import platform
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from tabulate import tabulate

from tests.fuzz.verdicts import ALLOWED, FAULTS

OUT = Path(__file__).parents[2] / "reports" / "fuzzing.md"
PACKAGES = ("torch", "transformers", "tokenizers", "sentencepiece", "safetensors", "gguf", "pyarrow", "datasets", "lm_eval")
ABOUT = {  # by kind: what is broken, and what a success is held against
    "configs": ("config.json of every family", "transformers on the same folder; for Baichuan a slow fp64 implementation"),
    "weights": ("headers and indexes of safetensors", "transformers on the same folder"),
    "pickles": (".pth and .bin: the pickle, the zip, tensors of every form, code", "the number before; transformers for .bin"),
    "tokens": ("tokenizer.json, tokenizer.model, the files beside them", "`tokenizers` and `sentencepiece` by themselves"),
    "gguf": ("GGUF headers, tensors, parts", "the package gguf's reader, and a transformers model of what it finds"),
    "corpora": ("texts and rows in one file, compressed or not", "the standard library and Arrow"),
    "folders": (
        "names of files, README.md, what is asked of a folder",
        "the rule of `--help`, and `datasets` where README.md declares files",
    ),
    "runs": ("manifest, records, summary.csv, path.json, sections.json", "the table of the uninterrupted sweep"),
    "tasks": ("benchmark files of makers and of the hub, YAML heads", "the standard library, and the questions before"),
}
PAGE = """# Fuzzing

{total:,} broken inputs, {faults} faults. `{command}` wrote this file on {date}; `make test` reads some hundred such inputs, `make
test-all` thousands. A case is known by its number: `python -m tests.fuzz --kind configs --case 1234` makes it again.

An input that is right is changed in one place or a few (a value of JSON, a bit, a gap, a name, a file that is gone) and read in a
process of its own within 60 seconds of CPU time and 4 GB. It must be refused, or give the number of something else that reads it.

{counts}

{verdicts}

What is broken, and what a success is held against:

{kinds}

- **Weights stay as they are**: other bits in them, or two tensors of one shape that changed places, are another valid model.
- **As before**, and right: transformers refuses a value that no logit depends on (`id2label`, `architectures`, `num_labels`), a size
  that is not said, an axis of size one more or less, and shards whose index is gone; slow readers refuse a key without its `model.`
  in front, a key that has a default, and a neutral key of GGUF; `datasets` refuses a configuration without a name. The number is that
  of the input before.
- **Documented**, and right: an epsilon of RWKV-4 that is a whole number, which transformers refuses, is used as written; Baichuan
  with another activation has transformers' own by that name, as Llama has; a removal path that is one of its order is taken as it
  is, for nothing tells it from the one that was found.
- Nothing tells a record of a run with another number in it from one that was scored either. Records are held to their form.

{versions}
"""


def write(counts: Mapping[str, Counter[str]], options: Sequence[str]) -> None:
    """The page of a run of the fuzzer with these options."""
    there = [verdict for verdict in ALLOWED if any(found[verdict] for found in counts.values())] + list(FAULTS)
    rows = [[kind, sum(found.values()), *(found[verdict] for verdict in there)] for kind, found in counts.items()]
    total = ["all", *(sum(row[i] for row in rows) for i in range(1, len(there) + 2))]
    OUT.write_text(
        PAGE.format(
            total=total[1],
            faults=sum(found[verdict] for found in counts.values() for verdict in FAULTS) or "no",
            command=shlex.join(["python", "-m", "tests.fuzz", *options]),
            date=datetime.datetime.now(datetime.UTC).date(),
            counts=tabulate([*rows, total], ["kind", "cases", *there], tablefmt="github"),
            verdicts=tabulate((ALLOWED | FAULTS).items(), ["ended", "that is"], tablefmt="github"),
            kinds=tabulate([(kind, *ABOUT[kind]) for kind in counts], ["kind", "broken", "held against"], tablefmt="github"),
            versions=f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES) + ".",
        ),
        encoding="utf-8",
    )
