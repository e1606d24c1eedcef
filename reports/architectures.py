"""`python -m reports.architectures` writes docs/architectures.md: the zoo compared at the full budget, with its conclusion. Two hours."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from tabulate import tabulate

from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.registry import load
from analysis.comparison import depths, plots
from analysis.comparison.results import Comparison
from analysis.comparison.robustness import Robustness, robustness
from analysis.comparison.start import Start
from analysis.comparison.study import compare
from analysis.comparison.trajectory import released, trajectory
from analysis.display import show
from analysis.parameters import progress_on_stderr
from analysis.runs.budgets import budget
from analysis.runs.files import write_text
from analysis.runs.settings import RunConfig
from analysis.zoo.groups import zoo_facts
from reports import over_training

PAGE = Path(__file__).parents[1] / "docs" / "architectures.md"
SEEDS = "zoo-seeds.csv"  # beside the figures: what seeds show of each pair


class Drawing(NamedTuple):
    """A figure of the page, kept with the numbers that it shows."""

    alt: str
    rows: Callable[[Comparison], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]


FIGURES = {  # by file
    "zoo-removal": Drawing("Loss as blocks are removed, cheapest first", lambda study: _main(study, study.curves), plots.curves),
    "zoo-blocks": Drawing(
        "Rise of the loss without each block", lambda study: _main(study, _blocks(study)), partial(plots.losses, kind="blocks")
    ),
    "zoo-depths": Drawing("Redundancy against the number of blocks, at equal parameters", depths.rows, plots.depths),
}


def page(study: Comparison, start: Start, tried: Robustness, trained: pd.DataFrame) -> str:
    """Markdown: every question with its answer, how robust that is, and what it is of.

    `trained`: what steps of trainings measure (`reports.over_training.measured`).
    """
    shapes = depths.table(study)
    seen = {name: f"![{of.alt}](../reports/gallery/{name}.svg)" for name, of in drawn(study).items()}
    every = f"All differences with their p-values are in [{SEEDS}](../reports/gallery/{SEEDS})." if len(study.over_seeds) else ""
    parts = {
        "": "The models of the [zoo](../adapters/zoo/README.md), trained alike but for their architecture and seed, side by side. "
        f"{study.text} `python -m reports.architectures` writes this page.\n\n{study.answered}",
        "Questions": "\n\n".join([study.questions, f"{study.reach} {every}", seen["zoo-removal"], seen["zoo-blocks"], study.bands]),
        "More blocks used, and yet more to spare": study.reconciled,
        "Before training": f"{start.conclusion}\n\n{_table(start.table)}" if start.trainings else "",
        "Over training": over_training.section(trained),
        "Deeper at equal size": "\n\n".join([depths.conclusion(study), seen["zoo-depths"], _table(shapes)]) if len(shapes) else "",
        "Under other choices": f"{tried.conclusion}\n\n{_table(tried.table)}",
        "The models": f"{_table(study.facts)}\n\n{_table(study.summaries)}\n\n{study.spread}",
        "Limits": f"{study.alike} {study.limits}",
    }
    said = [f"## {title}\n\n{text}" if title else f"# Is redundancy the Transformer's?\n\n{text}" for title, text in parts.items() if text]
    return "\n\n".join(map(str.rstrip, said)) + "\n"


def drawn(study: Comparison) -> dict[str, Drawing]:
    """FIGURES as far as there is something to draw: depths only where there are several."""
    return {name: of for name, of in FIGURES.items() if name != "zoo-depths" or depths.of_depths(study)}


def _blocks(study: Comparison) -> pd.DataFrame:
    return study.losses[study.losses["kind"] == "blocks"]


def _main(study: Comparison, rows: pd.DataFrame) -> pd.DataFrame:
    """Without early checkpoints and other depths, which would be too many lines."""
    return rows[rows["group"].isin([group.name for group in study.main])]


def _table(table: pd.DataFrame) -> str:
    """Empty without rows. Nothing in it comes from outside."""
    return "" if table.empty else tabulate(table.fillna("").values.tolist(), list(table.columns), tablefmt="github", floatfmt=".3g")


def write(out: Path, target: Path = PAGE, documents: int | None = None, device: str = "auto") -> None:
    """Measures what `out` does not hold yet, and writes the page and its figures. Raises StrataError without a zoo."""
    facts = zoo_facts()

    def loaded(name: str) -> BlockModel:
        return load(name, device=device, dtype="float32")

    config = RunConfig(budget("full"), out, documents=documents, progress=progress_on_stderr())
    study = Comparison(compare(list(facts), loaded, facts, config))
    over = trajectory(released(facts, device), replace(config, documents=min(documents or 16, 16)))
    said = page(study, over.start, robustness(study, loaded, config), over_training.measured())
    show.setup()
    for name, of in drawn(study).items():
        rows = of.rows(study)
        of.draw(rows).savefig(over_training.GALLERY / f"{name}.svg", metadata={"Date": None})
        write_text(over_training.GALLERY / f"{name}.csv", rows.to_csv(index=False))
    write_text(over_training.GALLERY / SEEDS, study.over_seeds.to_csv(index=False))
    write_text(target, said)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m reports.architectures", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("reports/out/architectures"), help="folder of the runs; rerun to resume")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--documents", type=int, help="of each model; the full budget's without it")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(arguments)
    try:
        write(given.out, given.page, given.documents, given.device)
    except StrataError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
