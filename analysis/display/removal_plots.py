"""Figures of removal paths: loss against what is removed, with the band of random orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from analysis.display.plots import axis_scale
from analysis.display.show import WIDTH

STYLES = ["-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5))]
COLOURS = [c for i, c in enumerate(sns.color_palette("colorblind", 10)) if i != 7]  # the grey is the random band's


class Panel(NamedTuple):
    """One part of a figure: a column of `Scored.table` to the right, and the orders that are drawn."""

    column: str
    label: str
    names: Sequence[str]


def removal_curves(
    table: pd.DataFrame,
    titles: Mapping[str, str],
    panels: Sequence[Panel],
    *,
    random: pd.DataFrame | None = None,
    ylabel: str = "rise in loss (nats per token)",
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """The rise in loss along orders, in panels side by side, four and more in rows of two; an order looks the same in all of
    them. `titles`: by name.

    `table` and `random`: as `Scored.table`; orders of the latter become one band from the lowest to the highest of them.
    Intervals are bands of the lines' colours. Columns that are shares are shown in per cent. `levels`: heights of dotted lines.
    """
    columns = 2 if len(panels) > 3 else len(panels)
    rows = len(panels) // columns
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, 1.0 + 2.7 * rows), sharey=True, squeeze=False)
    shown: dict[str, Artist] = {}
    for ax, (column, label, names) in zip(axes.flat, panels, strict=True):
        if random is not None:
            _band(ax, random, column)
        for name in names:
            points, place = table[table["order"] == name], list(titles).index(name)
            x, y, low, high = points[[column, "value", "ci_low", "ci_high"]].to_numpy(dtype=float).T
            colour, style = COLOURS[place % len(COLOURS)], STYLES[place % len(STYLES)]
            ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            ax.plot(x, y, color=colour, linestyle=style, linewidth=1.3, label=titles[name])
        for said, height in (levels or {}).items():
            ax.axhline(height, color="0.35", linestyle=":", linewidth=1.1, zorder=1, label=said)
        if column != "removed":
            ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.set(xlabel=label)
        sns.despine(ax=ax)
        shown |= {text: handle for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel)
    axis_scale(axes[0, 0], "y", np.concatenate([points["value"].to_numpy(dtype=float) for points in (table, random) if points is not None]))
    figure.legend(shown.values(), shown, loc="outside upper center", ncols=4, fontsize=8)
    return figure


def _band(ax: Axes, random: pd.DataFrame, column: str) -> None:
    """From the lowest to the highest of the random orders; they are scored with the same numbers of blocks removed."""
    grouped = random.groupby("removed").agg(x=(column, "mean"), low=("value", "min"), high=("value", "max"))
    n = random["order"].nunique()
    ax.fill_between(grouped["x"], grouped["low"], grouped["high"], color="0.6", alpha=0.3, linewidth=0, label=f"{n} random orders")


def removed_map(paths: Mapping[str, Sequence[Sequence[int]]], n_blocks: int) -> Figure:
    """When each order takes out each block: one row an order, dark goes first. `paths`: name -> sets of blocks, ascending in size."""
    grid = np.full((len(paths), n_blocks), float(n_blocks))
    for row, sets in enumerate(paths.values()):
        for out in reversed(sets):
            grid[row, list(out)] = len(out)
    figure, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.24 * len(paths)))
    drawn = ax.imshow(grid, cmap="cividis", aspect="auto", vmin=1, vmax=n_blocks, interpolation="nearest")
    ax.set_yticks(range(len(paths)), list(paths))
    ax.set(xlabel="block")
    ax.tick_params(length=0)
    sns.despine(ax=ax, left=True, bottom=True)
    figure.colorbar(drawn, ax=ax, label="position in the removal order", ticks=MaxNLocator(integer=True, nbins=6))
    return figure
