"""`python -m reports.architectures` writes docs/architectures.md: the zoo compared at the full budget, with its conclusion. Some hours."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.registry import load
from analysis.comparison import depths
from analysis.comparison.results import Comparison
from analysis.comparison.robustness import Robustness, robustness
from analysis.comparison.start import Start
from analysis.comparison.study import compare
from analysis.comparison.trajectory import released, trajectory
from analysis.display.format import escape
from analysis.parameters import progress_on_stderr
from analysis.runs.budgets import budget
from analysis.runs.files import write_text
from analysis.runs.settings import RunConfig
from analysis.zoo.groups import zoo_facts

PAGE = Path(__file__).parents[1] / "docs" / "architectures.md"


def page(study: Comparison, start: Start, tried: Robustness) -> str:
    """Markdown: every question with its answer, what seeds show, how robust that is, and what it is of."""
    shapes = depths.table(study)
    parts = {
        "": "Is redundancy the Transformer's? The models of the [zoo](../adapters/zoo/README.md), trained alike but for their architecture "
        f"and seed, side by side. {study.text} `python -m reports.architectures` writes this page.",
        "Questions": study.questions,
        "More blocks used, and yet more to spare": study.reconciled,
        "Before training": f"{start.conclusion}\n\n{_table(start.table)}" if start.trainings else "",
        "Deeper at equal size": _table(shapes),
        "What seeds show": f"Welch's t-test, and the exact permutation test with the least that it can give.\n\n{_table(study.over_seeds)}"
        if len(study.over_seeds)
        else "",
        "Under other choices": f"{tried.conclusion}\n\n{_table(tried.table)}",
        "Each pair": study.conclusion,
        "The models": f"{_table(study.facts)}\n\n{_table(study.summaries)}",
        "Limits": study.limits,
    }
    said = [f"## {title}\n\n{text}" if title else f"# Architectures\n\n{text}" for title, text in parts.items() if text]
    return "\n\n".join(said) + "\n"


def _table(table: pd.DataFrame) -> str:
    """Empty without rows."""
    if table.empty:
        return ""
    cells = [[escape(cell) if isinstance(cell, str) else cell for cell in row] for row in table.itertuples(index=False)]
    return tabulate(cells, list(table.columns), tablefmt="github", floatfmt=".3g", disable_numparse=False)


def write(out: Path, target: Path = PAGE, documents: int | None = None, device: str = "auto") -> None:
    """Measures what `out` does not hold yet, and writes the page. Raises StrataError without a zoo."""
    facts = zoo_facts()

    def loaded(name: str) -> BlockModel:
        return load(name, device=device, dtype="float32")

    config = RunConfig(budget("full"), out, documents=documents, progress=progress_on_stderr())
    study = Comparison(compare(list(facts), loaded, facts, config))
    over = trajectory(released(facts, device), replace(config, documents=min(documents or 16, 16)))
    write_text(target, page(study, over.start, robustness(study, loaded, config)))


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
