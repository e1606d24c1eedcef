"""`python -m reports.over_training --trainings DIR` measures trainings of the zoo at steps that they kept, beside those measured before.

Kept weights are large and stay where they were trained; what they measure is kept with the figures of the documentation.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from adapters.errors import StrataError
from analysis.comparison import plots
from analysis.comparison.redundancy import SUMMARIES
from analysis.comparison.results import MAIN
from analysis.comparison.start import MEASURES
from analysis.comparison.trajectory import DOCUMENTS, OF_PARTS, TITLES, trainings, trajectory
from analysis.display import show
from analysis.display.format import bounded, count, listed
from analysis.parameters import progress_on_stderr
from analysis.runs.budgets import budget
from analysis.runs.files import write_text
from analysis.runs.settings import RunConfig
from analysis.stats.intervals import Interval
from analysis.stats.seeds import over_seeds

GALLERY = Path(__file__).parent / "gallery"
ROWS = GALLERY / "zoo-training.csv"
KEYS = ["model", "step", "measure"]


def measured(path: Path = ROWS) -> pd.DataFrame:
    """Columns as `Trajectory.rows`; empty where nothing was measured."""
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=[*KEYS, "group", "architecture", "value", "ci_low", "ci_high"])


def growth(rows: pd.DataFrame) -> dict[str, tuple[int, int, int, Interval]]:
    """Of each group: its seeds, the first step after 0 and the last at which all have the area, and by how much that grows."""
    found = {}
    area = rows[(rows["measure"] == MAIN) & (rows["step"] > 0)].pivot(index="step", columns="model", values="value")
    for group, of in rows.groupby("group", sort=False):
        seeds = area[list(dict.fromkeys(of["model"]))].dropna()
        if len(seeds) > 1:
            change = tuple(seeds.iloc[-1] - seeds.iloc[0])
            found[str(group)] = len(change), int(seeds.index[0]), int(seeds.index[-1]), over_seeds(change)
    return found


def conclusion(rows: pd.DataFrame) -> str:
    """A Markdown list: by how much the area of each architecture grows, over seeds, and what that says."""
    said, title = [], SUMMARIES[MAIN].title
    for group, (seeds, first, last, change) in growth(rows).items():
        verdict = f"{count(seeds, 'seed')} {'say' if seeds > 1 else 'says'} nothing of other trainings"
        if change.low is not None and change.high is not None:
            how = "less" if change.low > 0 else "more" if change.high < 0 else ""
            verdict = f"it becomes {how} redundant as it learns" if how else "seeds leave open whether it becomes more or less redundant"
        said.append(f"- {group}: from step {first:,} to step {last:,} the {title} changes by {bounded(change)} ({verdict}).")
    return "\n".join(said)


def section(rows: pd.DataFrame) -> str:
    """Markdown of the page on architectures; empty where nothing was measured."""
    if rows.empty:
        return ""
    models = listed(dict.fromkeys(rows["model"]))
    parts = [f"![{title} of single parts over training](../reports/gallery/zoo-training-{name}.svg)" for name, title in MEASURES.items()]
    opening = f"Measured at steps that trainings kept, on {DOCUMENTS} documents: {models}. Bands are 95\u00a0% intervals over documents."
    return "\n\n".join([conclusion(rows), "![Redundancy over training](../reports/gallery/zoo-training.svg)", *parts, opening])


def draw(rows: pd.DataFrame, gallery: Path = GALLERY) -> None:
    """zoo-training.svg, and one figure for each measure of parts."""
    show.setup()
    figures = {"zoo-training": TITLES} | {
        f"zoo-training-{name}": {key: title for key, title in OF_PARTS.items() if key.startswith(f"{name} of ")} for name in MEASURES
    }
    for name, titles in figures.items():
        known = {key: title for key, title in titles.items() if (rows["measure"] == key).any()}
        plots.training(rows, known).savefig(gallery / f"{name}.svg", metadata={"Date": None})


def write(folder: Path, out: Path, target: Path = ROWS, device: str = "auto") -> None:
    """Adds what the trainings in `folder` measure to the rows in `target`, and draws them all. Raises StrataError without a training."""
    config = RunConfig(budget("full"), out, progress=progress_on_stderr())
    new = trajectory(trainings(folder, device), config).rows
    before = measured(target)
    rows = pd.concat([before[~before["model"].isin(new["model"])], new]) if len(before) else new
    rows = rows.sort_values(["architecture", "group", *KEYS], kind="stable").replace({np.inf: np.nan})
    write_text(target, rows.to_csv(index=False, float_format="%.6g"))
    draw(measured(target), target.parent)


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
