"""How every notebook looks: vector figures with captions, short tables, and the figures themselves.

`show`, `table` and `text` put a caption into the output's metadata, where reports/convert.py finds it. Captions and
texts are Markdown; whatever comes from outside (a model's name, a file's) goes through `words.escape` first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.display.format import number
from analysis.display.show import WIDTH

PALETTE = dict(zip(("blocks", "mixers", "ffns", "heads"), sns.color_palette("colorblind", 4), strict=True))
MARKERS = {"blocks": "o", "mixers": "s", "ffns": "^", "heads": "D"}
NAMES = {"ppl": "perplexity", "delta_nll": "rise in nll (nats per token)", "kl": "KL divergence (nats per token)", "bi": "Block Influence"}


def scale_of(values: Iterable[float]) -> tuple[str, dict[str, float]]:
    """The axis that shows every value: "linear", "log" or "symlog", and matplotlib's options for it.

    Logarithmic when the values span more than a factor of 10. Differences around zero whose largest is more than 10
    times the usual one get a logarithm on either side of a linear part.
    """
    v = np.array([x for x in values if np.isfinite(x)], dtype=float)
    if not v.any():
        return "linear", {}
    if v.min() > 0:
        return ("log", {}) if v.max() > 10 * v.min() else ("linear", {})
    usual = float(np.median(np.abs(v[v != 0])))
    return ("symlog", {"linthresh": 10.0 ** math.floor(math.log10(usual))}) if np.abs(v).max() > 10 * usual else ("linear", {})


def axis_scale(ax: Axes, axis: str, values: np.ndarray) -> None:
    """Sets the axis that shows every value, with plain numbers at its ticks."""
    name, options = scale_of(values)
    if name == "linear":
        return
    getattr(ax, f"set_{axis}scale")(name, **options)
    ticks = getattr(ax, f"{axis}axis")
    ticks.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}".replace("-", "−")))
    ticks.set_minor_formatter(NullFormatter())
    if name == "log" and np.nanmax(values) < 100 * np.nanmin(values):
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))  # one power of ten alone would not show the range


def depth_profile(rows: pd.DataFrame, metric: str, *, kinds: Sequence[str] = ("blocks",), ylabel: str = "") -> Figure:
    """The metric when one part is taken out, against the 0-based index of its block, with 95 % intervals.

    `rows`: the tidy table of a sweep. An empty interval is a point without a bar. A column `significant` (bool), when there,
    leaves the points hollow that do not differ significantly from the dense model. The dashed line is the dense model: its row, or
    zero for a difference; importance has none. Raises ValueError when a kind has no row.
    """
    rows = rows[rows["metric"] == metric]
    figure, ax = plt.subplots()
    for place, kind in enumerate(kinds):
        part = rows[rows["kind"] == kind].sort_values("block")
        if part.empty:
            raise ValueError(f"no rows of kind {kind!r} and metric {metric!r}")
        shift = (place - (len(kinds) - 1) / 2) * 0.22  # side by side: intervals of one block never cover each other
        points(ax, part, kind, shift)
    dense = rows.loc[rows["kind"] == "dense", "value"]
    base = [float(dense.iloc[0])] if len(dense) else [0.0] * metric.startswith(("delta_", "kl"))
    for height in base:
        ax.axhline(height, color="0.35", linestyle=(0, (4, 3)), linewidth=0.9, zorder=1, label=f"unpruned ({number(height)})")
    drawn = rows[rows["kind"].isin(kinds)]
    axis_scale(ax, "y", np.append(drawn[["value", "ci_low", "ci_high"]].to_numpy(dtype=float), base))
    ax.set(xlabel="block removed" if tuple(kinds) == ("blocks",) else "block", ylabel=ylabel or NAMES.get(metric, metric))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    ax.set_xlim(-0.7, drawn["block"].max() + 0.7)
    _legend(ax, hollow="significant" in rows and bool(drawn["significant"].eq(False).any()))
    return figure


def points(ax: Axes, part: pd.DataFrame, kind: str, shift: float = 0.0) -> None:
    """Values by block with their intervals, in the colour of `kind`; hollow where `significant`, when there, is False."""
    colour = PALETTE[kind]
    x, y = part["block"].to_numpy(dtype=float) + shift, part["value"].to_numpy(dtype=float)
    bounds = part[["ci_low", "ci_high"]].to_numpy(dtype=float)
    has = np.isfinite(bounds).all(axis=1)
    bars = np.abs(bounds[has] - y[has, None]).T
    ax.plot(x, y, color=colour, linewidth=0.7, alpha=0.45, zorder=2)
    ax.errorbar(x[has], y[has], yerr=bars, fmt="none", ecolor=colour, elinewidth=1.0, capsize=1.8, zorder=3)
    significant = part["significant"].ne(False) if "significant" in part else np.ones(len(part), dtype=bool)
    faces = [colour if solid else "white" for solid in significant]
    ax.scatter(x, y, s=20, marker=MARKERS[kind], c=faces, edgecolors=[colour], linewidths=1.0, zorder=4)
    ax.scatter([], [], s=20, marker=MARKERS[kind], color=colour, label=kind)


def _legend(ax: Axes, *, hollow: bool) -> None:
    if hollow:
        ax.scatter([], [], s=20, facecolors="white", edgecolors="0.35", linewidths=1.0, label="not significant")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5, borderaxespad=0.2, handletextpad=0.4, columnspacing=1.4)
    sns.despine(ax=ax)


def scatter_agreement(x: Mapping[int, float], y: Mapping[int, float], *, xlabel: str, ylabel: str) -> Figure:
    """One point per block (0-based index -> value), labelled with the block: does x, which is cheap, order blocks as y does?

    Raises ValueError when the blocks of x and y differ.
    """
    if set(x) != set(y):
        raise ValueError(f"x and y are of different blocks: {sorted(set(x) ^ set(y))}")
    blocks = sorted(x)
    xs, ys = np.array([x[b] for b in blocks]), np.array([y[b] for b in blocks])
    figure, ax = plt.subplots(figsize=(WIDTH * 0.75, 3.6))
    ax.scatter(xs, ys, s=18, color=PALETTE["blocks"], zorder=3)
    axis_scale(ax, "x", xs)
    axis_scale(ax, "y", ys)
    ax.margins(0.1)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    sns.despine(ax=ax)
    figure.draw_without_rendering()  # the layout is final: labels are placed in points
    _label(ax, blocks, ax.transData.transform(np.column_stack([xs, ys])) * 72 / figure.dpi)
    return figure


def _label(ax: Axes, blocks: Sequence[int], points: np.ndarray) -> None:
    """Writes each block's number where it covers the fewest points and numbers; `points` (n, 2) in typographic points."""
    angles = np.arange(8) * math.pi / 4
    places = np.concatenate([r * np.column_stack([np.cos(angles), np.sin(angles)]) for r in (7, 11, 15)])
    taken = points
    for block, point in zip(blocks, points, strict=True):
        far = (point + places)[:, None] - taken  # (places, taken, 2)
        crowd = np.exp(-(far**2).sum(-1) / 25).sum(-1)
        place = places[(crowd + 0.04 * np.hypot(*places.T)).argmin()]  # the nearer of two free places
        taken = np.vstack([taken, point + place])
        x, y = ax.transData.inverted().transform(point * ax.figure.dpi / 72)
        label = ax.annotate(str(block), (float(x), float(y)), tuple(place), textcoords="offset points", fontsize=7, color="0.25")
        label.set(ha="center", va="center")
