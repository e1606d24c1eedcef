"""The one figure of a report's first page: a small panel for each question, a row for each model."""

from __future__ import annotations

from collections.abc import Sequence

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from analysis.display.hover import note
from analysis.display.style import GREY, HUES, MARKERS, PARTS, canvas
from analysis.redundancy.findings import PARAMETERS, AtEqual, Findings
from analysis.stats.intervals import Interval

ARCHITECTURES = {"Transformer": "Transformers", "RWKV": "RWKVs", "Mamba": "state-space models"}  # as HUES calls them


def answers(found: Sequence[Findings]) -> Figure:
    """How many blocks can go, whether blocks or heads are cheaper, over how many blocks the loss is spread, and Block Influence."""
    figure, grid = canvas(1, 4, height=0.95 + 0.26 * len(found), sharey=True)
    axes = grid[0]
    questions = (
        "blocks that can go",
        "rise in loss without\nblocks (●), heads (◆)",
        "effective share\nof blocks",
        "Block Influence:\nKendall's tau",
    )
    for ax, title in zip(axes, questions, strict=True):
        ax.set_title(title, fontsize=8)
        ax.tick_params(labelsize=7)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.grid(axis="y", color="0.92", linewidth=0.8)
        ax.set_axisbelow(True)
        sns.despine(ax=ax, left=True)
        ax.tick_params(left=False)
    for row, f in enumerate(found):
        n = f.n_blocks
        unknown = bool(f.lacking)
        hue = HUES[ARCHITECTURES.get(f.architecture, "others")][0]
        at = None if unknown else _equal(f)
        drawn: list[tuple[Axes, str, Interval | None, str, str, float]] = [
            (axes[0], "share of blocks that can go", None if unknown else _share(f.removable, n), hue, "o", 0.0),
            (axes[1], "rise in loss without blocks", at.depth if at else None, PARTS["blocks"], MARKERS["blocks"], -0.13),
            (axes[1], "rise in loss without heads", at.width if at else None, PARTS["heads"], MARKERS["heads"], 0.13),
            (axes[2], "effective share of blocks", None if unknown else _share(f.effective, n), hue, "o", 0.0),
            (axes[3], "Kendall's tau of Block Influence", None if unknown else f.influence, hue, "o", 0.0),
        ]
        for ax, series, value, colour, marker, shift in drawn:
            if value is not None:
                _point(ax, row, value, colour, marker, shift)
                note(ax, series, [f.model], [value.value], [row + shift], *([end] for end in value))
            elif shift <= 0:  # once a panel
                ax.text(0.04, row, "not known", transform=ax.get_yaxis_transform(), fontsize=7, color=GREY, va="center", style="italic")
    for ax in (axes[0], axes[2]):
        ax.set_xlim(0, 1)
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes[3].set_xlim(-1, 1)
    axes[3].axvline(0, color=GREY, linewidth=0.7, zorder=0)
    axes[0].set_yticks(range(len(found)), [f.model for f in found], fontsize=8)
    axes[0].set_ylim(len(found) - 0.5, -0.5)
    return figure


def at_tenth(f: Findings) -> str:
    """The share at which depth and width are drawn, as the smallest that both reach."""
    at = _equal(f)
    return "" if at is None else f"{100 * at.share:.0f} %"


def _equal(f: Findings) -> AtEqual | None:
    """Where blocks and heads save 10 % of the block parameters, or the smallest share that both can."""
    points = [p for p in f.against if p.measure == PARAMETERS]
    return min(points, key=lambda p: abs(p.share - 0.1), default=None)


def _share(of: Interval | None, n: int) -> Interval | None:
    return None if of is None else Interval(of.value / n, *(None if end is None else end / n for end in of[1:]))


def _point(ax: Axes, row: int, at: Interval, colour: str, marker: str, shift: float) -> None:
    """A value with its interval."""
    if at.low is not None and at.high is not None:
        ax.hlines(row + shift, at.low, at.high, color=colour, linewidth=1.4)
    ax.plot(at.value, row + shift, marker=marker, markersize=4.5, color=colour, linestyle="")
