"""`python -m analysis.zoo`: trains the zoo, or one model of it, and writes what is finished into adapters/zoo."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch

from adapters.errors import StrataError, unknown
from analysis.data.documents import documents
from analysis.zoo.architectures import ARCHITECTURES
from analysis.zoo.release import LIMIT, release
from analysis.zoo.texts import Texts, clean
from analysis.zoo.training import BATCH, CONTEXT, STEPS, Plan, Training

SEEDS = {"llama": 4, "rwkv5": 4, "rwkv7": 3, "mamba2": 3, "baichuan": 3, "llama6": 1, "rwkv5x6": 1, "llama24": 1, "rwkv5x24": 1}
RUNS = [(model, seed) for seed in range(max(SEEDS.values())) for model, seeds in SEEDS.items() if seed < seeds]
EVERY = 60  # seconds between lines of progress
KEPT = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592"
PAGES = {"GLIBC_TUNABLES": KEPT}  # what is freed is kept for the next step, in large pages: a tenth faster on Linux


def train(model: str, seed: int, steps: int, out: Path) -> None:
    """Trains one model to the end in out/MODEL-SEED, from its last save on.

    One thread: these models are too small for two, and the same number gives the same weights on one machine.
    """
    if model not in ARCHITECTURES:
        raise unknown("architecture", model, ARCHITECTURES)
    if seed < 0 or steps < 1:
        raise StrataError(f"seed {seed} and {steps} steps were requested: a seed is at least 0, a training at least one step")
    torch.set_num_threads(1)
    texts = Texts.of(clean(documents("texts")))
    plan = Plan(model=model, seed=seed, steps=steps, data=texts.hash, tokenizer=texts.tokenizer_hash)
    training = Training(plan, texts, out / plan.name, "cuda" if torch.cuda.is_available() else "cpu")
    training.folder.mkdir(parents=True, exist_ok=True)
    (training.folder / "tokenizer.json").write_text(texts.tokenizer.to_str(pretty=True), encoding="utf-8")
    training.run(Lines(plan.name, steps))


class Lines:
    """A line to stderr every minute: step, loss, tokens a second, time left."""

    def __init__(self, name: str, steps: int) -> None:
        self.name, self.steps, self.since, self.taken = name, steps, time.monotonic(), 0

    def __call__(self, step: int, loss: float) -> None:
        self.taken += 1
        seconds = time.monotonic() - self.since
        if seconds < EVERY and step < self.steps:
            return
        left = (self.steps - step) * seconds / self.taken / 60
        speed = self.taken * BATCH * CONTEXT / seconds
        print(
            f"{self.name}  step {step}/{self.steps}  loss {loss:.3f}  {speed:,.0f} tokens/s  {left:,.0f} min left",
            file=sys.stderr,
            flush=True,
        )
        self.since, self.taken = time.monotonic(), 0


def train_all(runs: Iterable[tuple[str, int]], steps: int, out: Path) -> None:
    """A process for each core, one model each at a time. Raises StrataError when one of them fails, after the others."""
    common = ["--steps", str(steps), "--out", str(out)]
    commands = [[sys.executable, "-m", "analysis.zoo", "--model", model, "--seed", str(seed), *common] for model, seed in runs]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failed = sum(done.returncode != 0 for done in pool.map(partial(subprocess.run, env=PAGES | os.environ), commands))
    if failed:
        raise StrataError(f"{failed} of {len(commands)} models were not trained: see above; rerun the command to resume")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.zoo", description=__doc__)
    parser.add_argument("--model", help=f"one of {', '.join(ARCHITECTURES)}; all are trained without it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of {BATCH * CONTEXT} tokens")
    parser.add_argument(
        "--out", type=Path, default=Path("reports/out/zoo"), help="working folder; rerun the command to resume a stopped training"
    )
    parser.add_argument("--release", action="store_true", help="train nothing: write what is finished in --out into adapters/zoo")
    parser.add_argument("--limit", type=float, default=LIMIT, help="MB that a release may take; what it does not hold is named")
    given = parser.parse_args(arguments)
    try:
        if given.release:
            release(given.out, limit=given.limit)
        elif given.model:
            train(given.model, given.seed, given.steps, given.out)
        else:
            train_all(RUNS, given.steps, given.out)
    except StrataError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
