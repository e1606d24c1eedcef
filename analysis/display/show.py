"""How every notebook shows its results: vector figures with captions, short tables, text.

`figure`, `table` and `text` put a caption into the output's metadata, where reports/pieces.py finds it, and a figure what its points
are (`hover`). Captions and
texts are Markdown; whatever comes from outside (a model's name, a file's) goes through `format.escape` first. What has a name
is written to a file as well, figures/NAME.svg or tables/NAME.csv of the folder that `setup` was given.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.core.getipython import get_ipython
from IPython.display import Markdown, display
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib_inline.backend_inline import set_matplotlib_formats
from tabulate import tabulate

from adapters.errors import unwritable, visible
from analysis.display import hover
from analysis.display.format import as_csv, escape, file_name, number

WIDTH = 6.3  # inches: 16 cm, the text width of an A4 report, so that letters keep their size


HIDDEN = {"strata": {"hidden": True}}  # Jupyter shows the caption from this output, a report from the figure's metadata


class Place(NamedTuple):
    """Where what is shown is written to, and what all names begin with."""

    out: Path
    about: tuple[str, ...]


_places: list[Place] = []  # that of this notebook, if any


def setup(out: str | Path | None = None, *about: str) -> None:
    """The style of all figures, and where they are written to; a notebook calls it once.

    `about` stands in the name of every file: the notebook, and its model where it is about one. Letters become paths: they look the
    same everywhere. A dollar is one.
    """
    _places[:] = [] if out is None else [Place(Path(out).expanduser(), about)]
    rules = {
        "svg.fonttype": "path",
        "svg.hashsalt": "strata",  # the same picture is the same file, which a report shows once
        "text.parse_math": False,
        "figure.figsize": (WIDTH, 3.1),
        "figure.constrained_layout.use": True,
        "legend.frameon": False,
    }
    sizes = {"font.size": 9, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8}
    sns.set_theme(context="paper", style="ticks", palette="colorblind", rc=rules | sizes | {"font.family": _fonts()})
    if get_ipython() is not None:
        set_matplotlib_formats("svg")


def _fonts() -> list[str]:
    found = importlib.util.find_spec("noto_cjk_sans_otc")  # looked up without importing; only Chinese names need it
    folders = found.submodule_search_locations if found else None
    chinese = [file for folder in folders or () for file in Path(folder).glob("*.tt[cf]")]
    for file in chinese:
        font_manager.fontManager.addfont(file)
    return ["DejaVu Sans", *(font_manager.FontProperties(fname=str(file)).get_name() for file in chinese)]


def text(markdown: str) -> None:
    """Shows Markdown that was made from results: a conclusion, a warning."""
    display(Markdown(markdown))


def figure(drawn: Figure, caption: str, *name: str) -> None:
    """Shows a figure as SVG with its caption (Markdown, a sentence) and closes it. The parts of its name make that of its file."""
    svg = io.StringIO()
    for written in drawn.findobj(Text):  # names of models and tasks come from outside
        written.set_text(visible(written.get_text(), keep="\n"))
    drawn.savefig(svg, format="svg", metadata={"Date": None})
    seen = {"alt": hover.seen(drawn), "points": hover.pointed(drawn)}
    mark = {"caption": caption} | {name: found for name, found in seen.items() if found}
    plt.close(drawn)
    mark |= _written("figures", name, ".svg", svg.getvalue())
    display({"image/svg+xml": svg.getvalue(), "text/plain": caption}, metadata={"strata": mark}, raw=True)
    display(Markdown(caption), metadata=HIDDEN)


def found(*findings: Any) -> None:
    """Hands dataclasses of plain numbers to the report, whose first page is made from them; nothing is shown."""
    said = json.dumps([[type(one).__name__, asdict(one)] for one in findings], allow_nan=False)
    display({"text/plain": ""}, metadata={"strata": {"hidden": True, "findings": said}}, raw=True)


def facts(rows: pd.DataFrame) -> None:
    """Shows what was measured, and on what: two columns of text, which a report puts at its end."""
    table(rows, "What was measured, and on what.", "measured", facts=True)


def table(rows: pd.DataFrame, caption: str, *name: str, facts: bool = False) -> None:
    """Shows a short table without its index, with a caption (Markdown); cells are plain text, column names are Markdown.

    Its file, named as that of a figure, has the numbers with all their digits.
    """
    numeric = [pd.api.types.is_numeric_dtype(rows[name]) and rows[name].dtype != bool for name in rows]
    cells = [[_cell(value) for value in row] for row in rows.astype(object).itertuples(index=False)]
    align = ["right" if right else "left" for right in numeric]
    markdown = tabulate(cells, headers=list(map(str, rows)), tablefmt="pipe", colalign=align, disable_numparse=True)
    display(Markdown(caption), metadata=HIDDEN)
    mark: dict[str, Any] = {"caption": caption} | _written("tables", name, ".csv", as_csv(rows))
    if facts:
        mark["facts"] = rows.astype(str).to_numpy().tolist()
    display({"text/markdown": markdown, "text/plain": markdown}, metadata={"strata": mark}, raw=True)


def _written(folder: str, name: tuple[str, ...], suffix: str, content: str) -> dict[str, str]:
    """Writes a file, whole or not at all, and says which; nothing without a name or a place."""
    if not (name and _places):
        return {}
    out, about = _places[0]
    file = Path(folder) / f"{'--'.join(map(file_name, (*about, *name)))}{suffix}"
    path = out / file
    unfinished = path.with_name(f".{os.getpid()}{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(content, encoding="utf-8", newline="")
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise unwritable(path, error) from error
    return {"file": file.as_posix()}


def _cell(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if value is None or value is pd.NA or isinstance(value, (int, float, np.number)):
        return number(value)  # type: ignore[arg-type]
    return escape(value)
