"""Figures of removal paths: loss against what is removed, with the band of random orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from analysis.display.format import percent
from analysis.display.hover import note
from analysis.display.show import WIDTH
from analysis.display.style import DASHES, LEVEL, NAMES, ORDERS, PARTS, axis_scale, block_ticks, canvas

SAME = 0.02  # columns whose quotient varies less give panels that no eye tells apart


class Panel(NamedTuple):
    """One part of a figure: a column of `Scored.table` to the right, and the orders that are drawn."""

    column: str
    label: str
    names: tuple[str, ...]


def distinct(table: pd.DataFrame, panels: Sequence[Panel], before: Sequence[Panel] = ()) -> list[Panel]:
    """The panels that do not look like another, nor like one shown `before`: what saves as much by two measures is drawn once.

    `table`: as `Scored.table`. The label of a panel says for which others it stands: "all parameters 0.79 times that".
    """
    kept: dict[Panel, list[str]] = {}
    for panel in panels:
        if any(_factor(table, other, panel) for other in before):
            continue
        twin = next((other for other in kept if _factor(table, other, panel)), None)
        if twin is None:
            kept[panel] = []
        else:
            factor = _factor(table, twin, panel) or 0.0
            each = f"each {100 * factor:.2g} % of {panel.column}"
            kept[twin].append(each if twin.column == "removed" else f"{panel.column} {factor:.2g} times that")
    return [panel._replace(label=f"{panel.label}\n({', '.join(same)})") if same else panel for panel, same in kept.items()]


def _factor(table: pd.DataFrame, a: Panel, b: Panel) -> float | None:
    """What makes the column of `b` of that of `a`, where one number does, and both are of the same orders."""
    if a.names != b.names:
        return None
    rows = table[table["order"].isin(a.names) & (table[a.column] > 0)]
    factors = (rows[b.column] / rows[a.column]).to_numpy(dtype=float)
    return float(factors.mean()) if len(factors) and np.ptp(factors) <= SAME * np.abs(factors).max() else None


def removal_curves(
    table: pd.DataFrame,
    titles: Mapping[str, str],
    panels: Sequence[Panel],
    *,
    random: pd.DataFrame | None = None,
    ylabel: str = NAMES["delta_nll"],
    levels: Mapping[str, float] | None = None,
    linear: bool = False,
) -> Figure:
    """The rise in loss along orders, in panels side by side, four and more in rows of two; an order looks the same in all of
    them. `titles`: by name.

    `table` and `random`: as `Scored.table`; orders of the latter become one band from the lowest to the highest of them.
    Intervals are bands of the lines' colours. Columns that are shares are shown in per cent. `levels`: heights of dotted lines.
    The axis of values is logarithmic where they ask for it, unless it is to be `linear`.
    """
    columns = 2 if len(panels) > 3 else len(panels)
    rows = -(-len(panels) // columns)
    width = WIDTH if len(panels) > 1 else 0.8 * WIDTH
    figure, axes = canvas(rows, columns, width=width, height=1.0 + 2.7 * rows, sharey=True)
    shown: dict[str, Artist] = {}
    for ax, (column, label, names) in zip(axes.flat, panels, strict=False):
        if random is not None:
            _band(ax, random, column)
        for name in names:
            draw_order(ax, table[table["order"] == name], column, titles[name], look(name, list(titles).index(name)))
        for said, height in (levels or {}).items():
            ax.axhline(height, **LEVEL, label=said)
        share_axis(ax, column, table[table["order"].isin(names)], label)
        shown |= {text: handle for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel)
    drawn = [points["value"].to_numpy(dtype=float) for points in (table, random) if points is not None]
    if not linear:
        axis_scale(axes[0, 0], "y", np.concatenate(drawn), usual=0.25, also=table[["ci_low", "ci_high"]].to_numpy(dtype=float).ravel())
    figure.legend(
        shown.values(), shown, loc="outside upper center", ncols=4 if columns > 1 or len(shown) < 5 else 3, fontsize=8, handlelength=2.4
    )
    sns.despine(figure)
    return figure


def measures(tables: Mapping[str, pd.DataFrame], titles: Mapping[str, str]) -> Figure:
    """Several measures along orders, a small panel with an axis of its own for each, by title. `tables`: as `Scored.table` each."""
    columns = min(3, len(tables))
    rows = -(-len(tables) // columns)
    figure, axes = canvas(rows, columns, width=WIDTH, height=0.7 + 1.8 * rows)
    for ax, (title, table) in zip(axes.flat, tables.items(), strict=False):
        for place, name in enumerate(titles):
            draw_order(ax, table[table["order"] == name], "removed", titles[name], look(name, place))
        share_axis(ax, "removed", table, "blocks removed")
        ax.set_title(title, fontsize=8)
        ax.tick_params(labelsize=7)
        ax.xaxis.label.set_fontsize(8)
    for ax in axes.flat[len(tables) :]:
        ax.remove()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8, handlelength=2.4)
    sns.despine(figure)
    return figure


def look(name: str, place: int) -> dict[str, object]:
    """Of an order: the colour of the part that it removes, or one by its place among the orders."""
    colour = PARTS.get(name, ORDERS[place % len(ORDERS)])
    return {"color": colour, "linestyle": DASHES[place % len(DASHES)], "linewidth": 1.5 if name not in PARTS and place == 0 else 1.3}


def draw_order(ax: Axes, points: pd.DataFrame, column: str, title: str, style: Mapping[str, object]) -> None:
    """One line with its band."""
    x, y, low, high = points[[column, "value", "ci_low", "ci_high"]].to_numpy(dtype=float).T
    ax.fill_between(x, low, high, color=style["color"], alpha=0.18, linewidth=0)
    ax.plot(x, y, label=title, **style)  # type: ignore[arg-type]
    at = [f"{share:g} removed" if column == "removed" else f"{percent(share)} of {column}" for share in x]
    note(ax, title, at, x, y, y, low, high)


def share_axis(ax: Axes, column: str, drawn: pd.DataFrame, label: str) -> None:
    """Blocks as numbers and shares in per cent, from where the data begin to where they end."""
    low, high = float(drawn[column].min()), float(drawn[column].max())
    if column == "removed":
        block_ticks(ax.xaxis, int(high), 8)
    else:
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    ax.set(xlabel=label, xlim=(low, high + 0.01 * (high - low)) if high > low else None)


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
    figure, ((ax,),) = canvas(height=0.9 + 0.24 * len(paths))
    drawn = ax.imshow(grid, cmap="cividis", aspect="auto", vmin=1, vmax=n_blocks, interpolation="nearest")
    for row, name in enumerate(paths):
        note(ax, name, [f"position of block {block}" for block in range(n_blocks)], range(n_blocks), [row] * n_blocks, grid[row])
    ax.set_yticks(range(len(paths)), list(paths))
    ax.set(xlabel="block")
    block_ticks(ax.xaxis, n_blocks)
    ax.tick_params(length=0)
    sns.despine(ax=ax, left=True, bottom=True)
    figure.colorbar(drawn, ax=ax, label="position in the removal order", ticks=MaxNLocator(integer=True, nbins=6))
    return figure
