"""The figures of a first page: one question each, a third of the page wide, from the same results as the large ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from analysis.display.model_lines import lines, scale, styles_of
from analysis.display.style import LEVEL, NAMES, PARTS, axis_scale, canvas, clip

THIRD = 2.05  # inches
HEIGHT = 1.9
LETTERS = 7  # points: of everything, so that it is read at the size at which it is printed
TOP = 1.25  # of the gain over unigram: where curves leave the figure


def removal_thumbnail(rows: pd.DataFrame, limit: float | None = 0.1, title: str = "", ylabel: str = "rise (share of the gain)") -> Figure:
    """How many blocks can go: the loss as they go together. `limit`: what a removal may cost, a dotted line.

    `rows`: model, group, architecture, share of blocks removed, value, ci_low, ci_high, as `Comparison.curves`.
    """
    figure, ax = _small(title)
    rows = rows[rows["value"].notna()]
    lines(ax, rows, "share", styles_of(rows), markers=False)
    ax.set_ylim(bottom=min(0.0, float(rows["value"].min()))) if len(rows) else None
    if limit is not None:
        ax.axhline(limit, **LEVEL)
        ax.annotate(f"{limit:.0%}".replace("%", " %"), (1, limit), (-1, 1), ha="right", textcoords="offset points", fontsize=LETTERS - 1)
        clip(ax, min(TOP, 1.05 * float(np.nanmax([3 * limit, *rows["value"], *rows["ci_high"]]))))
    ax.set(xlabel="blocks removed", ylabel=ylabel, xlim=(0, 1.02))
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return _done(figure, ax)


def depth_width_thumbnail(losses: pd.DataFrame, title: str = "") -> Figure:
    """Depth or width: the loss where blocks, mixers, ffns or heads save as much. `losses`: `DepthWidth.losses` of one model."""
    figure, ax = _small(title)
    for kind, part in losses.groupby("order", sort=False):
        x, y, low, high = part[["block parameters", "value", "ci_low", "ci_high"]].to_numpy(dtype=float).T
        ax.fill_between(x, low, high, color=PARTS[str(kind)], alpha=0.18, linewidth=0)
        ax.plot(x, y, color=PARTS[str(kind)], linewidth=1.3, label=str(kind))
    ax.set(xlabel="block parameters saved", ylabel="rise in loss (nats)")
    ax.set_xlim(0, float(losses["block parameters"].max()) * 1.02)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    values = losses.loc[losses["block parameters"] > 0, "value"].to_numpy(dtype=float)
    axis_scale(ax, "y", np.append(values, 0.0), usual=0.25, also=losses[["ci_low", "ci_high"]].to_numpy(dtype=float).ravel())
    return _done(figure, ax)


def block_influence_thumbnail(bi: Mapping[int, float], rises: Mapping[int, float], title: str = "") -> Figure:
    """Does Block Influence know: a point a block, by what it says and by what the loss says. Raises ValueError as `scatter_agreement`."""
    if set(bi) != set(rises):
        raise ValueError(f"bi and rises are of different blocks: {sorted(set(bi) ^ set(rises))}")
    figure, ax = _small(title)
    blocks = sorted(bi)
    x, y = np.array([bi[b] for b in blocks]), np.array([rises[b] for b in blocks])
    ax.scatter(x, y, s=9, color=PARTS["blocks"], linewidths=0)
    ax.set(xlabel=NAMES["bi"], ylabel="rise in loss (nats)")
    ax.margins(0.12)
    if axis_scale(ax, "x", x, margin=0.12)[0] == "log":
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))  # more would not have room
    axis_scale(ax, "y", y, margin=0.12)
    return _done(figure, ax)


def comparison_thumbnail(rows: pd.DataFrame, title: str = "") -> Figure:
    """Transformer or RWKV: what each block costs over relative depth. `rows`: `Comparison.losses`, of which blocks are drawn.

    As shares of the gain over unigram, or in bits per byte where a model has none.
    """
    figure, ax = _small(title)
    rows = rows[rows["kind"] == "blocks"]
    unit = "share" if rows.loc[rows["unit"] == "share", "model"].nunique() == rows["model"].nunique() else "bits"
    part = rows[rows["unit"] == unit]
    lines(ax, part, "depth", styles_of(rows), markers=False)
    ax.set(xlabel="depth (0: first block, 1: last)", xlim=(-0.02, 1.02))
    ax.set_ylabel("rise (share of the gain)" if unit == "share" else "rise (bits per byte)")
    scale(ax, part)
    return _done(figure, ax)


def _small(title: str) -> tuple[Figure, Axes]:
    figure, ((ax,),) = canvas(width=THIRD, height=HEIGHT)
    if title:
        figure.suptitle(title, fontsize=LETTERS + 0.5)
    return figure, ax


def _done(figure: Figure, ax: Axes) -> Figure:
    """Small letters, and a legend above where there is more than one line."""
    for text in (ax.xaxis.label, ax.yaxis.label):
        text.set_fontsize(LETTERS)
    ax.tick_params(labelsize=LETTERS, length=2.5, pad=2)
    ax.tick_params(which="minor", length=1.5)
    handles, labels = ax.get_legend_handles_labels()
    if len(handles) > 1:
        spaces: dict[str, Any] = {"handlelength": 1.3, "handletextpad": 0.4, "columnspacing": 0.9, "labelspacing": 0.2}
        ax.legend(
            handles,
            labels,
            ncols=2,
            fontsize=LETTERS,
            loc="lower center",
            bbox_to_anchor=(0.4, 1.0),
            borderpad=0.1,
            borderaxespad=0.1,
            **spaces,
        )
    sns.despine(figure)
    return figure
