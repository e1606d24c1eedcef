"""`python -m reports.over_training --trainings DIR` measures trainings of the zoo at steps that they kept, beside those measured before.

Kept weights are large and stay where they were trained; what they measure is kept with the figures of the documentation.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache, partial
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from adapters.catalogue import ZOO
from adapters.errors import StrataError
from analysis.comparison import plots
from analysis.comparison.redundancy import SUMMARIES
from analysis.comparison.results import MAIN
from analysis.comparison.start import MEASURES
from analysis.comparison.trajectory import DOCUMENTS, TITLES, parts_of, trainings, trajectory
from analysis.data.hashes import content_hash
from analysis.display import show
from analysis.display.format import bounded, capital, count, escape, listed
from analysis.display.model_lines import bands
from analysis.parameters import progress_on_stderr
from analysis.runs.budgets import budget
from analysis.runs.files import write_text
from analysis.runs.settings import RunConfig
from analysis.stats.intervals import Interval
from analysis.stats.seeds import ENOUGH, over_seeds
from analysis.zoo.release import finished

GALLERY = Path(__file__).parent / "gallery"
ROWS = GALLERY / "zoo-training.csv"
KEYS = ["model", "step", "measure"]
COLUMNS = [*KEYS, "group", "architecture", "value", "ci_low", "ci_high", "trained", "released"]


def measured(path: Path = ROWS) -> pd.DataFrame:
    """Columns as `Trajectory.rows`, `trained`, a hash of the plan but for model and seed, and `released`: do its last weights lie in the
    zoo? Empty where nothing was measured."""
    return pd.read_csv(path, dtype={"trained": str}) if path.is_file() else pd.DataFrame(columns=COLUMNS)


def growth(rows: pd.DataFrame) -> dict[str, tuple[int, int, int, Interval]]:
    """Of each group: its seeds, the first step after 0 and the last at which all have the area, and by how much that grows.

    Without groups that have it at fewer than two steps: models that are no better than a byte unigram.
    """
    found = {}
    area = rows[(rows["measure"] == MAIN) & (rows["step"] > 0)].pivot(index="step", columns="model", values="value")
    for group, of in rows.groupby("group", sort=False):
        steps = area.reindex(columns=of["model"].unique()).dropna()
        if len(steps) > 1:
            change = tuple(steps.iloc[-1] - steps.iloc[0])
            found[str(group)] = len(change), int(steps.index[0]), int(steps.index[-1]), over_seeds(change)
    return found


def conclusion(rows: pd.DataFrame) -> str:
    """A Markdown list: by how much the area of each architecture grows, over seeds, and what that says."""
    said, title = [], SUMMARIES[MAIN].title
    for group, (seeds, first, last, change) in growth(rows).items():
        verdict = f"{count(seeds, 'seed')} of at least {ENOUGH}, which says nothing of other trainings"
        if change.low is not None and change.high is not None:
            how = "less" if change.low > 0 else "more" if change.high < 0 else ""
            verdict = f"it becomes {how} redundant as it learns" if how else "seeds leave open whether it becomes more or less redundant"
        said.append(f"- {escape(group)}: from step {first:,} to step {last:,} the {title} changes by {bounded(change)}: {verdict}.")
    return "\n".join(said)


def figures(rows: pd.DataFrame) -> dict[str, tuple[str, dict[str, str]]]:
    """By file: what is seen, and the title of each measure; those for which there are rows."""
    every = {"zoo-training": ("Redundancy over training", TITLES)}
    for name, title in MEASURES.items():
        every[f"zoo-training-{name}"] = f"{capital(title)} of single parts over training", parts_of(name)
    known = {
        name: (seen, {key: title for key, title in titles.items() if (rows["measure"] == key).any()})
        for name, (seen, titles) in every.items()
    }
    return {name: of for name, of in known.items() if of[1]}


def section(rows: pd.DataFrame) -> str:
    """Markdown of the page on architectures; empty where nothing was measured."""
    if rows.empty:
        return ""
    seen = [f"![{alt}](../reports/gallery/{name}.svg)" for name, (alt, _) in figures(rows).items()]
    several = rows.groupby("group")["model"].nunique().max() > 1
    read = f"At steps that {listed(rows['model'].unique())} kept, on {DOCUMENTS} documents. {bands(DOCUMENTS, several)}"
    if others := list(rows.loc[~rows["released"], "model"].unique()):
        read += (
            f" {listed(others)} were trained again by the plan of the zoo's: on another processor sums round otherwise, so that it "
            "led to other weights than those of the zoo."
        )
    return "\n\n".join([f"{conclusion(rows)}\n\nIntervals are over seeds, each by itself.", *seen, read])


def draw(rows: pd.DataFrame, gallery: Path = GALLERY) -> None:
    show.setup()
    for name, (_, titles) in figures(rows).items():
        plots.training(rows, titles).savefig(gallery / f"{name}.svg", metadata={"Date": None})


def merged(before: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Rows of both, the new ones of a model in place of those before. Raises StrataError where they were not trained alike."""
    if len(before) and set(before["trained"]) != set(new["trained"]):
        raise StrataError(f"{ROWS.name} holds trainings of another text or recipe: train alike, or remove it")
    rows = pd.concat([before[~before["model"].isin(new["model"])], new]) if len(before) else new
    return rows.sort_values(["architecture", "group", *KEYS], kind="stable")[COLUMNS]


def write(folder: Path, out: Path, target: Path = ROWS, device: str = "auto") -> None:
    """Adds what the trainings in `folder` measure to the rows in `target`, and draws them all. Raises StrataError without a training."""
    plan = {key: value for key, value in finished(folder)[0].plan.items() if key not in ("model", "seed")}
    config = RunConfig(budget("full"), out, progress=progress_on_stderr())
    found = trajectory(trainings(folder, device), config).rows
    new = found.assign(trained=content_hash(plan), released=found["model"].map(partial(_released, folder)))
    write_text(target, merged(measured(target), new).to_csv(index=False, float_format="%.6g"))
    draw(measured(target), target.parent)


@cache
def _released(folder: Path, name: str) -> bool:
    """Are the last weights of a training those of the zoo?"""
    last, known = max((folder / name / "weights").glob("*.safetensors")), ZOO / name / "model.safetensors"
    if not known.is_file():
        return False
    trained, released = load_file(last), load_file(known)
    return trained.keys() == released.keys() and all(torch.equal(trained[key], released[key]) for key in released)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m reports.over_training", description=__doc__)
    parser.add_argument("--trainings", type=Path, required=True, help="working folder of `python -m analysis.zoo`")
    parser.add_argument("--out", type=Path, default=Path("reports/out/over-training"), help="folder of the runs; rerun to resume")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(arguments)
    try:
        write(given.trainings, given.out, device=given.device)
    except StrataError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
