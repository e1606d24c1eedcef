"""Figures of several models in one: a hue for each kind of architecture, seeds thin and their mean thick."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.comparison.depths import FIGURE
from analysis.comparison.measured import UNITS
from analysis.comparison.redundancy import LIMIT
from analysis.display.model_lines import finished, lines, scale, styles_of
from analysis.display.style import DENSE, DEPTH, LEVEL, canvas, clip

TOP = 1.25  # of the gain over unigram: where a removal curve leaves the figure


def losses(rows: pd.DataFrame, kind: str) -> Figure:
    """What each single part costs against its relative depth, absolute and as a share of the model's gain over unigram.

    `rows`: `analysis.comparison.results.Comparison.losses`.
    """
    return _in_both_units(rows[rows["kind"] == kind], "depth", DEPTH, styles_of(rows))


def sublayers(rows: pd.DataFrame) -> Figure:
    """As `losses`, mixers beside ffns: as shares of the gain over unigram, or in bits where a model has none."""
    known = rows.loc[rows["unit"] == "share", "model"].nunique() == rows["model"].nunique()
    unit = "share" if known else "bits"
    figure, ((*axes,),) = canvas(1, 2, height=3.0, sharey=True)
    shown = rows[(rows["unit"] == unit) & rows["kind"].isin(("mixers", "ffns"))]
    for ax, kind in zip(axes, ("mixers", "ffns"), strict=True):
        lines(ax, shown[shown["kind"] == kind], "depth", styles_of(rows))
        ax.set(xlabel=DEPTH, title=f"without {kind}")
    axes[0].set_ylabel(f"rise in loss ({UNITS[unit]})")
    scale(axes[0], shown)
    if axes[0].get_yscale() != "log":
        for ax in axes:
            ax.axhline(0, **DENSE)
    return finished(figure, axes[0])


def heads(rows: pd.DataFrame) -> Figure:
    """What single heads cost, the cheapest first, absolute and as a share of the gain over unigram, of the models that have heads."""
    part = rows[rows["kind"] == "heads"].sort_values(["model", "unit", "value"])
    part = part.assign(rank=part.groupby(["model", "unit"])["value"].transform(lambda v: (np.arange(len(v)) + 0.5) / len(v)))
    return _in_both_units(part, "rank", "share of heads, cheapest first", styles_of(rows), single=False)


def _in_both_units(rows: pd.DataFrame, x: str, xlabel: str, styles: Mapping[str, dict], *, single: bool = True) -> Figure:
    """`single`: points are parts that can be named, and small ones are read beside large ones."""
    figure, ((*axes,),) = canvas(1, len(UNITS), height=3.0)
    for ax, (unit, title) in zip(axes, UNITS.items(), strict=True):
        part = rows[rows["unit"] == unit]
        lines(ax, part, x, styles, markers=single)
        ax.set(xlabel=xlabel, ylabel=f"rise in loss ({title})")
        if single:
            scale(ax, part)
        if ax.get_yscale() != "log":
            ax.axhline(0, **DENSE)
    return finished(figure, axes[0])


def influence(rows: pd.DataFrame) -> Figure:
    """Block Influence against relative depth."""
    figure, ((ax,),) = canvas()
    lines(ax, rows, "depth", styles_of(rows))
    ax.set(xlabel=DEPTH, ylabel="Block Influence")
    scale(ax, rows)
    return finished(figure, ax)


def curves(rows: pd.DataFrame) -> Figure:
    """Loss along the removal path; the dotted line is what `analysis.comparison.redundancy.removable` allows.

    The axis ends where the data do, or at TOP, and a triangle marks a line that leaves it.
    """
    figure, ((ax,),) = canvas()
    lines(ax, rows, "share", styles_of(rows))
    ax.axhline(LIMIT, **LEVEL, label=f"{LIMIT:.0%} of the gain".replace("%", " %"))
    highest = float(np.nanmax([1.5 * LIMIT, *rows["value"], *rows["ci_high"]]))
    if highest >= 1:
        ax.axhline(1, **DENSE, label="byte unigram")
    ax.set(xlabel="share of blocks removed", ylabel=f"rise in loss ({UNITS['share']})", xlim=(0, 1.02))
    ax.set_ylim(bottom=min(0.0, float(np.nanmin([0.0, *rows["value"]])) * 1.1))
    clip(ax, min(TOP, 1.05 * highest))
    return finished(figure, ax)


def depths(rows: pd.DataFrame) -> Figure:
    """Redundancy against the number of blocks at equal size, a line for each kind: rows of `analysis.comparison.depths.rows`."""
    figure, ((*axes,),) = canvas(1, len(FIGURE), height=2.8)
    blocks = sorted(rows["blocks"].unique())
    for ax, (measure, title) in zip(axes, FIGURE.items(), strict=True):
        lines(ax, rows[rows["measure"] == measure], "blocks", styles_of(rows))
        ax.set_xscale("log", base=2)
        ax.set_xticks(blocks, [str(n) for n in blocks])
        ax.set_xticks([], minor=True)
        ax.set(xlabel="blocks", title=textwrap.fill(title, 20))
    return finished(figure, axes[0])


def training(rows: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Measures of one training after another against its step: a panel for each of `titles` (measure -> title).

    `rows`: model, group, architecture, step, measure, value, ci_low, ci_high (`analysis.comparison.trajectory`). Raises ValueError for
    a measure that has no row.
    """
    figure, ((*axes,),) = canvas(1, len(titles), height=2.8)
    steps = sorted(rows["step"].unique())
    first = max(1.0, float(rows.loc[rows["step"] > 0, "step"].min()))
    shown = sorted({steps[0], int(first), steps[-1]})
    for ax, (measure, title) in zip(axes, titles.items(), strict=True):
        part = rows[rows["measure"] == measure]
        if part.empty:
            raise ValueError(f"no rows of {measure!r}")
        lines(ax, part, "step", styles_of(rows))
        ax.set_xscale("symlog", linthresh=first)
        ax.set_xticks(shown, [f"{step:,}" for step in shown])
        ax.set_xticks([], minor=True)
        ax.set(xlabel="training step", title=textwrap.fill(title, 20))
    return finished(figure, axes[0])
