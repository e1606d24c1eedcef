"""Figures of several models in one: a colour for each architecture, a marker for each of its seeds."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.comparison.redundancy import LIMIT
from analysis.comparison.study import UNITS
from analysis.display.model_lines import finished, lines, scale, styles_of
from analysis.display.show import WIDTH

TOP = 1.25  # of the gain over unigram: where a removal curve leaves the figure


def losses(rows: pd.DataFrame, kind: str) -> Figure:
    """What each single part costs against its relative depth, absolute and as a share of the model's gain over unigram.

    `rows`: `analysis.comparison.results.Comparison.losses`.
    """
    return _in_both_units(rows[rows["kind"] == kind], "depth", "relative depth (0: first block, 1: last)", styles_of(rows))


def heads(rows: pd.DataFrame) -> Figure:
    """What single heads cost, the cheapest first, absolute and as a share of the gain over unigram, of the models that have heads."""
    part = rows[rows["kind"] == "heads"].sort_values(["model", "unit", "value"])
    part = part.assign(rank=part.groupby(["model", "unit"])["value"].transform(lambda v: (np.arange(len(v)) + 0.5) / len(v)))
    return _in_both_units(part, "rank", "share of heads, cheapest first", styles_of(rows))


def _in_both_units(rows: pd.DataFrame, x: str, xlabel: str, styles: Mapping[str, dict]) -> Figure:
    figure, axes = plt.subplots(1, len(UNITS), figsize=(WIDTH, 3.0))
    for ax, (unit, title) in zip(axes, UNITS.items(), strict=True):
        part = rows[rows["unit"] == unit]
        lines(ax, part, x, styles)
        scale(ax, part)
        if ax.get_yscale() != "log":
            ax.axhline(0, color="0.35", linestyle=(0, (4, 3)), linewidth=0.9, zorder=1)
        ax.set(xlabel=xlabel, ylabel=f"rise ({title})")
    return finished(figure, axes[0])


def influence(rows: pd.DataFrame) -> Figure:
    """Block Influence against relative depth."""
    figure, ax = plt.subplots()
    lines(ax, rows, "depth", styles_of(rows))
    scale(ax, rows)
    ax.set(xlabel="relative depth (0: first block, 1: last)", ylabel="Block Influence")
    return finished(figure, ax)


def curves(rows: pd.DataFrame) -> Figure:
    """Loss along the removal path; the dotted line is what `analysis.comparison.redundancy.removable` allows."""
    figure, ax = plt.subplots()
    lines(ax, rows, "share", styles_of(rows))
    ax.axhline(LIMIT, color="0.35", linestyle=":", linewidth=0.9, zorder=1, label=f"{LIMIT:.0%} of the gain over unigram")
    ax.axhline(1, color="0.35", linestyle=(0, (4, 3)), linewidth=0.9, zorder=1, label="byte unigram")
    low, high = np.nanmin([-0.03, *rows["value"]]), np.nanmax([1.0, *rows["value"]])
    ax.set(
        xlabel="share of blocks removed",
        ylabel="rise (share of the gain)",
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
        lines(ax, part, "step", styles_of(rows))
        ax.set_xscale("symlog", linthresh=max(1.0, float(rows.loc[rows["step"] > 0, "step"].min())))
        ax.set_xticks(shown, [f"{step:,}" for step in shown])
        ax.set_xticks([], minor=True)
        ax.set(xlabel="training step", title=textwrap.fill(title, 20))
    return finished(figure, axes.flat[0])
