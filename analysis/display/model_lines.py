"""Lines of several models in one figure: a hue for each kind of architecture, seeds thin, the mean over seeds thick with its band."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.display.format import count, number
from analysis.display.hover import note
from analysis.display.sentences import intervals
from analysis.display.style import DASHES, DEPTH, HUES, axis_scale

MARKERS = dict(zip(HUES, "os^D", strict=True))  # of architectures
THIN: dict[str, Any] = {"linewidth": 0.6, "alpha": 0.55, "zorder": 2}


def bands(n_documents: int, seeds: bool) -> str:
    """What the lines and bands of a figure are; sentences for captions. `seeds`: is there a group of several?"""
    said = intervals(n_documents, "bands")
    return f"Thin lines are single seeds, thick ones their mean. {said}" if seeds else said


def lines_over_depth(ax: Axes, rows: pd.DataFrame, ylabel: str) -> None:
    """`rows` as those of `lines`, with `depth` and `significant`, which is False where a point of a model is hollow."""
    styles = styles_of(rows)
    lines(ax, rows, "depth", styles)
    for group, part in rows[~rows["significant"]].groupby("group", sort=False):
        style = styles[str(group)]
        ax.scatter(
            part["depth"], part["value"], s=12, marker=style["marker"], c="white", edgecolors=[style["color"]], linewidths=0.9, zorder=4
        )
    ax.set(xlabel=DEPTH, ylabel=ylabel)


def lines(ax: Axes, rows: pd.DataFrame, x: str, styles: Mapping[str, dict], *, markers: bool = True) -> None:
    """`rows`: model, group, architecture, `x`, value, ci_low, ci_high.

    The band of several seeds lies between the means of the ends of their intervals: that of their mean is no wider.
    """
    for group, of in rows.groupby("group", sort=False):
        style = {**styles[str(group)]}
        if not markers:
            style.pop("marker")
        every = of.groupby("model", sort=False)
        if every.ngroups > 1:
            for _, line in every:
                line = line.sort_values(x)
                ax.plot(line[x].astype(float), line["value"].astype(float), color=style["color"], **THIN)
        mean = of.astype({"ci_low": float, "ci_high": float}).groupby(x)[["value", "ci_low", "ci_high"]].mean().sort_index()
        at = mean.index.to_numpy(dtype=float)
        ax.fill_between(at, mean["ci_low"], mean["ci_high"], color=style["color"], alpha=0.16, linewidth=0)
        named = str(group) if every.ngroups == 1 else f"{group} ({count(every.ngroups, 'seed')})"
        ax.plot(at, mean["value"], linewidth=1.7, markersize=3.4, label=named, zorder=3, **style)
        note(ax, named, [f"at {number(place)}" for place in at], at, mean["value"], mean["value"], mean["ci_low"], mean["ci_high"])


def styles_of(rows: pd.DataFrame) -> dict[str, dict]:
    """Of each group: a shade of its architecture's hue, dashes and a marker, by its place in the architecture."""
    groups = rows[["group", "architecture"]].drop_duplicates("group")
    places = groups.groupby("architecture").cumcount()
    return {
        group: {
            "color": HUES[kind][place % len(HUES[kind])],
            "linestyle": DASHES[place % len(DASHES)],
            "marker": MARKERS[kind],
        }
        for group, kind, place in zip(groups["group"], groups["architecture"], places, strict=True)
    }


def scale(ax: Axes, rows: pd.DataFrame) -> None:
    """That shows every value; the label comes first."""
    axis_scale(ax, "y", rows[["value", "ci_low", "ci_high"]].to_numpy(dtype=float).ravel())


def finished(figure: Figure, ax: Axes) -> Figure:
    """With one legend for all panels, that of `ax`."""
    sns.despine(figure)
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(3, max(1, len(labels))), fontsize=8, handlelength=2.6)
    return figure
