"""How every notebook shows its results: vector figures with captions, short tables, text.

`figure`, `table` and `text` put a caption into the output's metadata, where reports/convert.py finds it. Captions and
texts are Markdown; whatever comes from outside (a model's name, a file's) goes through `format.escape` first.
"""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

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

from adapters.errors import visible
from analysis.display.format import escape, number

WIDTH = 6.3  # inches: 16 cm, the text width of an A4 report, so that letters keep their size


HIDDEN = {"strata": {"hidden": True}}  # Jupyter shows the caption from this output, a report from the figure's metadata


def setup() -> None:
    """The style of all figures; a notebook calls it once. Letters become paths: they look the same everywhere. A dollar is one."""
    rules = {
        "svg.fonttype": "path",
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


def figure(drawn: Figure, caption: str) -> None:
    """Shows a figure as SVG with its caption (Markdown, a sentence) and closes it."""
    svg = io.StringIO()
    for written in drawn.findobj(Text):  # names of models and tasks come from outside
        written.set_text(visible(written.get_text(), keep="\n"))
    drawn.savefig(svg, format="svg", metadata={"Date": None})
    plt.close(drawn)
    display({"image/svg+xml": svg.getvalue(), "text/plain": caption}, metadata={"strata": {"caption": caption}}, raw=True)
    display(Markdown(caption), metadata=HIDDEN)


def table(rows: pd.DataFrame, caption: str) -> None:
    """Shows a short table without its index, with a caption (Markdown); cells are plain text, column names are Markdown."""
    numeric = [pd.api.types.is_numeric_dtype(rows[name]) and rows[name].dtype != bool for name in rows]
    cells = [[_cell(value) for value in row] for row in rows.astype(object).itertuples(index=False)]
    align = ["right" if right else "left" for right in numeric]
    markdown = tabulate(cells, headers=list(map(str, rows)), tablefmt="pipe", colalign=align, disable_numparse=True)
    display(Markdown(caption), metadata=HIDDEN)
    display({"text/markdown": markdown, "text/plain": markdown}, metadata={"strata": {"caption": caption}}, raw=True)


def _cell(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if value is None or value is pd.NA or isinstance(value, (int, float, np.number)):
        return number(value)  # type: ignore[arg-type]
    return escape(value)
