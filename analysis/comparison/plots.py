"""Figures of several models in one: a colour for each architecture, a marker for each of its seeds."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparison.redundancy import LIMIT
from analysis.comparison.study import UNITS
from analysis.display.plots import axis_scale
from analysis.display.sentences import intervals
from analysis.display.show import WIDTH
from analysis.stats.intervals import ENOUGH

SEEDS = "os^Dv*P"  # markers
BANDS = 4  # models whose intervals can be told apart in one panel
TOP = 1.25  # of the margin: where a removal curve leaves the figure


def losses(rows: pd.DataFrame, kind: str) -> Figure:
    """What each single part costs against its relative depth, absolute and as a share of the model's margin.

    `rows`: `analysis.comparison.results.Comparison.losses`.
    """
    return _in_both_units(rows[rows["kind"] == kind], "depth", "relative depth (0: first block, 1: last)", _styles(rows))


def heads(rows: pd.DataFrame) -> Figure:
    """What single heads cost, the cheapest first, absolute and as a share of the margin, of the models that have heads."""
    part = rows[rows["kind"] == "heads"].sort_values(["model", "unit", "value"])
    part = part.assign(rank=part.groupby(["model", "unit"])["value"].transform(lambda v: (np.arange(len(v)) + 0.5) / len(v)))
    return _in_both_units(part, "rank", "share of the heads, cheapest first", _styles(rows))


def _in_both_units(rows: pd.DataFrame, x: str, xlabel: str, styles: Mapping[str, dict]) -> Figure:
    figure, axes = plt.subplots(1, len(UNITS), figsize=(WIDTH, 3.0))
    for ax, (unit, title) in zip(axes, UNITS.items(), strict=True):
        part = rows[rows["unit"] == unit]
        _lines(ax, part, x, styles)
        _scale(ax, part)
        if ax.get_yscale() != "log":
            ax.axhline(0, color="0.35", linestyle=(0, (4, 3)), linewidth=0.9, zorder=1)
        ax.set(xlabel=xlabel, ylabel=f"rise ({title})")
    return finished(figure, axes[0])


def influence(rows: pd.DataFrame) -> Figure:
    """Block Influence against relative depth."""
    figure, ax = plt.subplots()
    _lines(ax, rows, "depth", _styles(rows))
    _scale(ax, rows)
    ax.set(xlabel="relative depth (0: first block, 1: last)", ylabel="Block Influence")
    return finished(figure, ax)


def curves(rows: pd.DataFrame) -> Figure:
    """Loss along the removal path; the dotted line is what `analysis.comparison.redundancy.removable` allows."""
    figure, ax = plt.subplots()
    _lines(ax, rows, "share", _styles(rows))
    ax.axhline(LIMIT, color="0.35", linestyle=":", linewidth=0.9, zorder=1, label=f"{LIMIT:.0%} of the margin")
    ax.axhline(1, color="0.35", linestyle=(0, (4, 3)), linewidth=0.9, zorder=1, label="byte unigram")
    low, high = np.nanmin([-0.03, *rows["value"]]), np.nanmax([1.0, *rows["value"]])
    ax.set(
        xlabel="share of the blocks removed",
        ylabel="rise (share of the margin)",
        ylim=(low, min(TOP, 1.05 * high)),
    )
    return finished(figure, ax)


def training(rows: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Measures of one training after another against its step: a panel for each of `titles` (measure -> title).

    `rows`: model, group, step, measure, value, ci_low, ci_high (`analysis.comparison.trajectory`). Raises ValueError for a measure
    that has no row.
    """
    figure, axes = plt.subplots(1, len(titles), figsize=(WIDTH, 2.8), squeeze=False)
    steps = sorted(rows["step"].unique())
    shown = sorted({steps[0], steps[len(steps) // 2], steps[-1]})
    for ax, (measure, title) in zip(axes.flat, titles.items(), strict=True):
        part = rows[rows["measure"] == measure]
        if part.empty:
            raise ValueError(f"no rows of {measure!r}")
        _lines(ax, part, "step", _styles(rows))
        ax.set_xscale("symlog", linthresh=max(1.0, float(rows.loc[rows["step"] > 0, "step"].min())))
        ax.set_xticks(shown, [f"{step:,}" for step in shown])
        ax.set_xticks([], minor=True)
        ax.set(xlabel="training step", title=textwrap.fill(title, 20))
    return finished(figure, axes.flat[0])


def bands(n_models: int, n_documents: int) -> str:
    """What the bands of a figure are, or why there are none; a sentence for captions."""
    if n_documents >= ENOUGH and n_models > BANDS:
        return f"Intervals over {n_documents} documents are left out: {n_models} models would hide each other."
    return intervals(n_documents, "bands")


def lines_over_depth(ax: Axes, rows: pd.DataFrame, ylabel: str) -> None:
    """`rows`: model, group, depth, value, ci_low, ci_high, and `told`, which is False where a point is hollow."""
    styles = _styles(rows)
    _lines(ax, rows, "depth", styles)
    for model, part in rows[~rows["told"]].groupby("model", sort=False):
        style = styles[str(model)]
        ax.scatter(
            part["depth"], part["value"], s=12, marker=style["marker"], c="white", edgecolors=[style["color"]], linewidths=0.9, zorder=4
        )
    ax.set(xlabel="relative depth (0: first block, 1: last)", ylabel=ylabel)


def _lines(ax: Axes, rows: pd.DataFrame, x: str, styles: Mapping[str, dict]) -> None:
    banded = rows["model"].nunique() <= BANDS
    for model, line in rows.groupby("model", sort=False):
        line = line.sort_values(x)
        at = line[x].to_numpy(dtype=float)
        value, low, high = line[["value", "ci_low", "ci_high"]].to_numpy(dtype=float).T
        if banded:
            ax.fill_between(at, low, high, color=styles[str(model)]["color"], alpha=0.2, linewidth=0)
        ax.plot(at, value, linewidth=0.9, markersize=3.2, label=str(model), **styles[str(model)])


def _styles(rows: pd.DataFrame) -> dict[str, dict]:
    """Colour by group, marker by the model's place in its group."""
    groups = rows[["model", "group"]].drop_duplicates()
    colours = dict(zip(groups["group"].unique(), sns.color_palette("colorblind", groups["group"].nunique()), strict=True))
    seeds = groups.groupby("group").cumcount()
    return {
        model: {"color": colours[group], "marker": SEEDS[seed % len(SEEDS)]}
        for model, group, seed in zip(groups["model"], groups["group"], seeds, strict=True)
    }


def _scale(ax: Axes, rows: pd.DataFrame) -> None:
    axis_scale(ax, "y", rows[["value", "ci_low", "ci_high"]].to_numpy(dtype=float).ravel())


def finished(figure: Figure, ax: Axes) -> Figure:
    """With one legend for all panels, that of `ax`."""
    for each in figure.axes:
        sns.despine(ax=each)
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, fontsize=8)
    return figure
