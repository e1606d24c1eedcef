"""Lines of several models in one figure: a colour for each architecture, a marker for each of its seeds."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.display.plots import axis_scale
from analysis.display.sentences import intervals
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI

SEEDS = "os^Dv*P"  # markers
BANDS = 4  # models whose intervals can be distinguished in one panel


def bands(n_models: int, n_documents: int) -> str:
    """What the bands of a figure are, or why there are none; a sentence for captions."""
    if n_documents >= MIN_DOCUMENTS_FOR_CI and n_models > BANDS:
        return f"Intervals over {n_documents} documents are not drawn: those of {n_models} models would hide each other."
    return intervals(n_documents, "bands")


def lines_over_depth(ax: Axes, rows: pd.DataFrame, ylabel: str) -> None:
    """`rows`: model, group, depth, value, ci_low, ci_high, and `significant`, which is False where a point is hollow."""
    styles = styles_of(rows)
    lines(ax, rows, "depth", styles)
    for model, part in rows[~rows["significant"]].groupby("model", sort=False):
        style = styles[str(model)]
        ax.scatter(
            part["depth"], part["value"], s=12, marker=style["marker"], c="white", edgecolors=[style["color"]], linewidths=0.9, zorder=4
        )
    ax.set(xlabel="relative depth (0: first block, 1: last)", ylabel=ylabel)


def lines(ax: Axes, rows: pd.DataFrame, x: str, styles: Mapping[str, dict]) -> None:
    banded = rows["model"].nunique() <= BANDS
    for model, line in rows.groupby("model", sort=False):
        line = line.sort_values(x)
        at = line[x].to_numpy(dtype=float)
        value, low, high = line[["value", "ci_low", "ci_high"]].to_numpy(dtype=float).T
        if banded:
            ax.fill_between(at, low, high, color=styles[str(model)]["color"], alpha=0.2, linewidth=0)
        ax.plot(at, value, linewidth=0.9, markersize=3.2, label=str(model), **styles[str(model)])


def styles_of(rows: pd.DataFrame) -> dict[str, dict]:
    """Colour by group, marker by the model's place in its group."""
    groups = rows[["model", "group"]].drop_duplicates()
    colours = dict(zip(groups["group"].unique(), sns.color_palette("colorblind", groups["group"].nunique()), strict=True))
    seeds = groups.groupby("group").cumcount()
    return {
        model: {"color": colours[group], "marker": SEEDS[seed % len(SEEDS)]}
        for model, group, seed in zip(groups["model"], groups["group"], seeds, strict=True)
    }


def scale(ax: Axes, rows: pd.DataFrame) -> None:
    axis_scale(ax, "y", rows[["value", "ci_low", "ci_high"]].to_numpy(dtype=float).ravel())


def finished(figure: Figure, ax: Axes) -> Figure:
    """With one legend for all panels, that of `ax`."""
    for each in figure.axes:
        sns.despine(ax=each)
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, fontsize=8)
    return figure
