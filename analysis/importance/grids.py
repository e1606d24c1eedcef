"""Figures in two directions: heat maps of spans and of rank correlations, small multiples of profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.display.format import hundredths
from analysis.display.plots import MARKERS, PALETTE, axis_scale
from analysis.display.show import WIDTH


def profiles(rows: pd.DataFrame, titles: Mapping[str, str], *, kinds: Sequence[str], columns: int = 3) -> Figure:
    """One panel for each metric of `titles` (name -> title): its value by 0-based block, one line a kind, 95 % bands.

    `rows`: tidy table. Raises ValueError when a metric has no row.
    """
    height = math.ceil(len(titles) / columns)
    figure, axes = plt.subplots(height, columns, figsize=(WIDTH, 0.3 + 1.75 * height), sharex=True, squeeze=False)
    for ax, (metric, title) in zip(axes.flat, titles.items(), strict=False):
        part = rows[rows["metric"] == metric]
        if part.empty:
            raise ValueError(f"no rows of metric {metric!r}")
        for kind in kinds:
            line = part[part["kind"] == kind].sort_values("block")
            x = line["block"].to_numpy(dtype=float)
            value, low, high = line[["value", "ci_low", "ci_high"]].to_numpy(dtype=float).T
            ax.fill_between(x, low, high, color=PALETTE[kind], alpha=0.25, linewidth=0)
            ax.plot(x, value, color=PALETTE[kind], linewidth=0.8, marker=MARKERS[kind], markersize=2.6, label=kind)
        axis_scale(ax, "y", part[["value", "ci_low", "ci_high"]].to_numpy(dtype=float).ravel())
        ax.set_title(title, fontsize=9)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        sns.despine(ax=ax)
    for ax in axes.flat[len(titles) :]:
        ax.remove()
    figure.supxlabel("block", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(kinds), fontsize=8)
    return figure


def span_map(spans: pd.DataFrame, metric: str = "angular_last", *, label: str) -> Figure:
    """A value for every contiguous span: first block to the right, number of blocks upwards; a dot marks the least of each row.

    `spans`: table of `analysis.metrics.spans.SpanStudy`.
    """
    rows = spans[spans["metric"] == metric]
    grid = rows.pivot(index="length", columns="start", values="value")
    n = len(grid)
    figure, ax = plt.subplots(figsize=(WIDTH * 0.8, 3.9))
    drawn = ax.imshow(grid, origin="lower", extent=(-0.5, n - 0.5, 0.5, n + 0.5), cmap="cividis", vmin=0, aspect="auto")
    least = rows.loc[rows.groupby("length")["value"].idxmin()]
    ax.scatter(least["start"], least["length"], s=12, color="white", edgecolors="black", linewidths=0.6, label="smallest of its length")
    ax.set(xlabel="first block of the span", ylabel="number of blocks")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    ax.legend(loc="upper right")
    sns.despine(ax=ax)
    figure.colorbar(drawn, ax=ax, label=label)
    return figure


def correlation_map(pairs: pd.DataFrame) -> Figure:
    """Rank correlations of all pairs: Kendall's tau below the diagonal, Spearman's rho above it.

    `pairs`: a, b, statistic (kendall, spearman), value, ci_low, ci_high. Values whose interval holds zero are in brackets.
    """
    names = list(dict.fromkeys([*pairs["a"], *pairs["b"]]))
    place = {name: i for i, name in enumerate(names)}
    grid = np.full((len(names), len(names)), np.nan)
    figure, ax = plt.subplots(figsize=(WIDTH, 4.3))
    for a, b, statistic, value, low, high in pairs[["a", "b", "statistic", "value", "ci_low", "ci_high"]].to_numpy():
        above, left = sorted((place[a], place[b]))
        y, x = (left, above) if statistic == "kendall" else (above, left)
        grid[y, x] = value
        said = hundredths(value)
        colour = "white" if abs(value) > 0.65 else "0.1"
        ax.text(x, y, f"({said})" if low <= 0 <= high else said, ha="center", va="center", fontsize=7, color=colour)
    drawn = ax.imshow(grid, cmap="RdBu", norm=TwoSlopeNorm(0, -1, 1), aspect="auto")
    ax.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(length=0)
    sns.despine(ax=ax, left=True, bottom=True)
    figure.colorbar(drawn, ax=ax, label="τ below, ρ above the diagonal")
    return figure
