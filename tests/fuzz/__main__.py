"""`python -m tests.fuzz` feeds Strata with broken inputs. `--kind configs --case 1234` makes one of them again and shows it."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import torch
import transformers

from tests.fuzz.core import Fuzzer
from tests.fuzz.kinds import KINDS, kind
from tests.fuzz.page import write
from tests.fuzz.verdicts import ALLOWED, Outcome

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--kind", action="append", choices=KINDS, help="of input; all by default, may be given several times")
    parser.add_argument("--cases", type=int, default=100, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", type=int, help="this one alone, with all that was said")
    parser.add_argument("--keep", type=Path, help="a new folder for the mutant of --case")
    parser.add_argument("--show", action="append", default=[], choices=list(ALLOWED), help="cases of this verdict too, not faults alone")
    parser.add_argument("--page", action="store_true", help="write reports/fuzzing.md")
    asked = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # mutants hold halves of characters
    counts: dict[str, Counter[str]] = {}
    for name in asked.kind or KINDS:
        began = _seconds()
        with tempfile.TemporaryDirectory() as folder:
            fuzzer = Fuzzer(name, kind(name), Path(folder))
            if asked.case is not None:
                print(_shown(name, asked.case, fuzzer.run(asked.case, asked.keep)))
                continue
            counts[name] = _run(fuzzer, range(asked.first, asked.first + asked.cases), asked.show)
        said = ", ".join(f"{verdict} {n}" for verdict, n in sorted(counts[name].items()))
        print(f"{name}: {said} ({_seconds() - began:.1f} s of CPU)", flush=True)
    if asked.page:
        write(counts, sys.argv[1:])
    sys.exit(any(verdict not in ALLOWED for found in counts.values() for verdict in found))


def _run(fuzzer: Fuzzer, numbers: range, show: list[str]) -> Counter[str]:
    """How many cases ended how; faults are printed."""
    found = Counter[str]()
    for number in numbers:
        outcome = fuzzer.run(number)
        found[outcome.verdict] += 1
        if outcome.is_fault or outcome.verdict in show:
            print(_shown(fuzzer.name, number, outcome), flush=True)
    return found


def _seconds() -> float:
    """Of the CPU, with those of all cases."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _shown(name: str, number: int, outcome: Outcome) -> str:
    return f"--kind {name} --case {number} ({outcome.mutation}) {outcome.verdict}: {outcome.said}"


if __name__ == "__main__":
    main()
