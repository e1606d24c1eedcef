"""Figures of importance: small multiples of profiles, a map of spans, and which orders agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.display.head_plots import lowest_panels
from analysis.display.hover import note
from analysis.display.show import WIDTH
from analysis.display.style import DENSE, EMPTY, MARKERS, PARTS, UNCLEAR, axis_scale, block_ticks, canvas
from analysis.stats.intervals import Interval


def profiles(rows: pd.DataFrame, titles: Mapping[str, str], *, kinds: Sequence[str], columns: int = 3) -> Figure:
    """One panel for each metric of `titles` (name -> title): its value by 0-based block, one line a kind, 95 % bands.

    `rows`: tidy table. Raises ValueError when a metric has no row.
    """
    height = math.ceil(len(titles) / columns)
    figure, axes = canvas(height, columns, height=0.3 + 1.75 * height, sharex=True)
    for ax, (metric, title) in zip(axes.flat, titles.items(), strict=False):
        part = rows[rows["metric"] == metric]
        if part.empty:
            raise ValueError(f"no rows of metric {metric!r}")
        for kind in kinds:
            line = part[part["kind"] == kind].sort_values("block")
            x = line["block"].to_numpy(dtype=float)
            value, low, high = line[["value", "ci_low", "ci_high"]].to_numpy(dtype=float).T
            ax.fill_between(x, low, high, color=PARTS[kind], alpha=0.25, linewidth=0)
            ax.plot(x, value, color=PARTS[kind], linewidth=0.8, marker=MARKERS[kind], markersize=2.6, label=kind)
            note(ax, f"{title} of {kind}", [f"block {block:g}" for block in x], x, value, value, low, high)
        axis_scale(ax, "y", part[["value", "ci_low", "ci_high"]].to_numpy(dtype=float).ravel())
        ax.set_title(title, fontsize=9)
    block_ticks(axes[0, 0].xaxis, int(rows["block"].max()) + 1, 6)
    lowest_panels(axes, len(titles))
    sns.despine(figure)
    figure.supxlabel("block", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(kinds), fontsize=8)
    return figure


def span_map(spans: pd.DataFrame, metric: str = "angular_last", *, label: str) -> Figure:
    """A value for every contiguous span: first block to the right, number of blocks upwards; a dot marks the least of each row.

    Where spans from block 0 on are far above all others, colours end with the others. `spans`: table of `analysis.metrics.spans.SpanStudy`.
    """
    rows = spans[spans["metric"] == metric]
    grid = rows.pivot(index="length", columns="start", values="value")
    n = len(grid)
    figure, ((ax,),) = canvas(width=WIDTH * 0.8, height=3.9)
    usual = float(rows["value"][rows["start"] > 0].max()) if n > 1 else float(rows["value"].max())
    beyond = float(rows["value"].max()) > 1.5 * usual
    drawn = ax.imshow(
        grid,
        origin="lower",
        extent=(-0.5, n - 0.5, 0.5, n + 0.5),
        cmap="cividis",
        vmin=0,
        vmax=usual if beyond else None,
        aspect="auto",
    )
    spans_at = [f"{length} from block {start}" for length, start in zip(rows["length"], rows["start"], strict=True)]
    note(ax, label, spans_at, rows["start"], rows["length"], rows["value"], rows["ci_low"], rows["ci_high"])
    least = rows.loc[rows.groupby("length")["value"].idxmin()]
    ax.scatter(least["start"], least["length"], s=12, color="white", edgecolors="black", linewidths=0.6, label="smallest of its length")
    ax.set(xlabel="first block of the span", ylabel="number of blocks")
    for axis in (ax.xaxis, ax.yaxis):
        block_ticks(axis, n, 10)
    ax.legend(loc="upper right")
    sns.despine(ax=ax)
    figure.colorbar(drawn, ax=ax, label=label, extend="max" if beyond else "neither")
    return figure


def agreement(taus: Mapping[str, Mapping[str, Interval]], pairs: pd.DataFrame) -> Figure:
    """Left: Kendall's tau of each metric with the rise in loss, by kind of part. Right: of each pair of metrics, for the blocks.

    `taus`: kind -> metric -> tau with its interval. `pairs`: a, b, statistic, value, ci_low, ci_high, of which those of metrics are
    drawn. Grey: the interval holds zero.
    """
    metrics = list(next(iter(taus.values())))
    figure, ((ax, side),) = canvas(1, 2, height=1.1 + 0.25 * len(metrics), width_ratios=(1.25, 1), sharey=True)
    for row, (kind, found) in enumerate(taus.items()):
        shift = 0.22 * (row - (len(taus) - 1) / 2)
        for place, name in enumerate(metrics):
            value, low, high = (np.nan if x is None else float(x) for x in found[name])
            colour = UNCLEAR if low <= 0 <= high else PARTS[kind]
            ax.plot([low, high], [place + shift] * 2, color=colour, linewidth=1.1)
            ax.plot(value, place + shift, marker=MARKERS[kind], markersize=4, color=colour, linestyle="none")
            note(ax, f"τ of {kind} with the rise in loss", [name], [value], [place + shift], [value], [low], [high])
        ax.plot([], [], marker=MARKERS[kind], markersize=4, color=PARTS[kind], linestyle="none", label=kind)
    ax.axvline(0, **DENSE)
    ax.set(xlabel="τ with the rise in loss", xlim=(-1.05, 1.05))
    ax.set_yticks(range(len(metrics)), metrics)
    _triangle(side, pairs, metrics)
    ax.set_ylim(len(metrics) - 0.5, -0.5)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(taus), borderaxespad=0.2, handletextpad=0.2, columnspacing=1.0)
    sns.despine(ax=ax)
    return figure


def _triangle(ax: Axes, pairs: pd.DataFrame, names: Sequence[str]) -> None:
    """Kendall's tau of each pair of names once, below the diagonal."""
    place = {name: i for i, name in enumerate(names)}
    grid = np.full((len(names), len(names)), np.nan)
    known = pairs[(pairs["statistic"] == "kendall") & pairs["a"].isin(names) & pairs["b"].isin(names)]
    for a, b, value, low, high in known[["a", "b", "value", "ci_low", "ci_high"]].itertuples(index=False):
        left, right = sorted((place[a], place[b]))
        grid[right, left] = value
        note(ax, "τ between metrics", [f"{a} and {b}"], [left], [right], [value], [low], [high])
        if low <= 0 <= high:
            grid[right, left] = np.nan
            ax.add_patch(Rectangle((left - 0.5, right - 0.5), 1, 1, color=EMPTY, linewidth=0))
    drawn = ax.imshow(grid, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    ax.set_xticks(range(len(names) - 1), names[:-1], rotation=35, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0, labelleft=False)
    sns.despine(ax=ax, left=True, bottom=True)
    ax.figure.colorbar(drawn, ax=ax, label="τ between metrics", shrink=0.9)
