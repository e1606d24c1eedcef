"""`python -m tests.fuzz` feeds Strata with broken inputs. `--kind configs --case 1234` makes one of them again and shows it."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}

import torch
import transformers

from tests.fuzz.core import ALLOWED, Fuzzer, Outcome
from tests.fuzz.kinds import KINDS

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="of input; all by default, may be given several times")
    parser.add_argument("--cases", type=int, default=100, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", type=int, help="this one alone, with all that was said")
    parser.add_argument("--show", action="append", default=[], choices=list(ALLOWED), help="cases of this verdict too, not faults alone")
    parser.add_argument("--keep", type=Path, help="a new folder for the mutant of --case")
    asked = parser.parse_args()
    faults = 0
    for name in asked.kind or list(KINDS):
        began = _seconds()
        with tempfile.TemporaryDirectory() as folder:
            fuzzer = Fuzzer(name, KINDS[name], Path(folder))
            if asked.case is not None:
                print(_shown(name, asked.case, fuzzer.run(asked.case, asked.keep)))
                continue
            found = Counter[str]()
            for number in range(asked.first, asked.first + asked.cases):
                outcome = fuzzer.run(number)
                found[outcome.verdict] += 1
                if outcome.is_fault or outcome.verdict in asked.show:
                    print(_shown(name, number, outcome), flush=True)
        faults += sum(n for verdict, n in found.items() if Outcome(verdict, "", "", 0).is_fault)
        counts = ", ".join(f"{verdict} {n}" for verdict, n in sorted(found.items()))
        print(f"{name}: {counts} ({_seconds() - began:.1f} s of CPU)", flush=True)
    sys.exit(faults > 0)


def _seconds() -> float:
    """Of the CPU, with those of all cases."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _shown(kind: str, number: int, outcome: Outcome) -> str:
    return f"--kind {kind} --case {number} ({outcome.mutation}) {outcome.verdict}: {outcome.said}"


if __name__ == "__main__":
    main()
