"""Figures of single parts: what each costs over depth, and whether a cheap metric orders blocks as the loss does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.display.format import SUPERSCRIPT, bounded, number
from analysis.display.hover import note
from analysis.display.show import WIDTH
from analysis.display.style import DENSE, GREY, MARKERS, NAMES, PARTS, Scale, axis_scale, block_ticks, canvas
from analysis.stats.intervals import Interval

GAP = 17  # typographic points between the ticks of a second axis


def depth_profile(
    rows: pd.DataFrame,
    metric: str,
    *,
    kinds: Sequence[str] = ("blocks",),
    behind: Sequence[str] = (),
    perplexity: float | None = None,
    linear: bool = False,
) -> Figure:
    """The metric when one part is taken out, against the 0-based index of its block, with 95 % intervals.

    `rows`: the tidy table of a sweep. An empty interval is a point without a bar. A column `significant` (bool), when there,
    leaves the points hollow that do not differ significantly from the dense model. The dashed line is the dense model: its row, or
    zero for a difference; importance has none. Kinds that were shown before stand `behind`, as a line alone. `perplexity`: of the
    dense model, for a rise in loss; a second axis then says what a rise makes of it. The axis of values is logarithmic where they
    ask for it, unless it is to be `linear`. Raises ValueError when a kind has no row.
    """
    rows = rows[rows["metric"] == metric]
    figure, ((ax,),) = canvas()
    for place, kind in enumerate(kinds):
        shift = (place - (len(kinds) - 1) / 2) * 0.22  # side by side: intervals of one block never cover each other
        points(ax, _of(rows, kind, metric), kind, shift)
    for kind in behind:
        part = _of(rows, kind, metric)
        ax.plot(part["block"].astype(float), part["value"], color=PARTS[kind], linewidth=1.0, alpha=0.6, zorder=2, label=kind)
        note_parts(ax, part, kind)
    dense = rows.loc[rows["kind"] == "dense", "value"]
    base = [float(dense.iloc[0])] if len(dense) else [0.0] * metric.startswith(("delta_", "kl"))
    for height in base:
        ax.axhline(height, **DENSE, label=f"unpruned ({number(height)})" if height else "unpruned")
    drawn = rows[rows["kind"].isin(kinds)]
    n = int(drawn["block"].max()) + 1
    ax.set(xlabel="block removed" if set(kinds) | set(behind) == {"blocks"} else "block", ylabel=NAMES.get(metric, metric))
    ax.set_xlim(-0.7, n - 0.3)
    block_ticks(ax.xaxis, n)
    shown = rows[rows["kind"].isin([*kinds, *behind])]
    values = np.append(shown[["value", "ci_low", "ci_high"]].to_numpy(dtype=float), base)
    scale: Scale = ("linear", {}) if linear else axis_scale(ax, "y", values)
    _legend(ax, hollow="significant" in rows and bool(drawn["significant"].eq(False).any()))
    if perplexity is not None:
        _perplexity_axis(figure, ax, scale, perplexity)
    return figure


def _of(rows: pd.DataFrame, kind: str, metric: str) -> pd.DataFrame:
    part = rows[rows["kind"] == kind].sort_values("block")
    if part.empty:
        raise ValueError(f"no rows of kind {kind!r} and metric {metric!r}")
    return part


def points(ax: Axes, part: pd.DataFrame, kind: str, shift: float = 0.0) -> None:
    """Values by block with their intervals, in the colour of `kind`; hollow where `significant`, when there, is False."""
    colour = PARTS[kind]
    x, y = part["block"].to_numpy(dtype=float) + shift, part["value"].to_numpy(dtype=float)
    bounds = part[["ci_low", "ci_high"]].to_numpy(dtype=float)
    has = np.isfinite(bounds).all(axis=1)
    bars = np.abs(bounds[has] - y[has, None]).T
    ax.plot(x, y, color=colour, linewidth=0.7, alpha=0.45, zorder=2)
    ax.errorbar(x[has], y[has], yerr=bars, fmt="none", ecolor=colour, elinewidth=1.0, capsize=1.8, zorder=3)
    faces = [colour if solid else "white" for solid in significant(part)]
    ax.scatter(x, y, s=20, marker=MARKERS[kind], c=faces, edgecolors=[colour], linewidths=1.0, zorder=4)
    ax.scatter([], [], s=20, marker=MARKERS[kind], color=colour, label=kind)
    note_parts(ax, part, kind, shift)


def note_parts(ax: Axes, part: pd.DataFrame, kind: str, shift: float = 0.0) -> None:
    """Says which blocks the values of `part` are of, and where they do not differ significantly."""
    blocks = [f"block {block}" for block in part["block"]]
    bounds = part[["value", "ci_low", "ci_high"]].to_numpy(dtype=float).T
    note(ax, kind, blocks, part["block"].astype(float) + shift, part["value"], *bounds, significant=significant(part))


def significant(part: pd.DataFrame) -> np.ndarray:
    """Of each row; all are where nothing else is known."""
    return part["significant"].ne(False).to_numpy() if "significant" in part else np.ones(len(part), dtype=bool)


def _legend(ax: Axes, *, hollow: bool) -> None:
    if hollow:
        ax.scatter([], [], s=20, facecolors="white", edgecolors=GREY, linewidths=1.0, label="not significant")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5, borderaxespad=0.2, handletextpad=0.4, columnspacing=1.4)
    sns.despine(ax=ax)


def _perplexity_axis(figure: Figure, ax: Axes, scale: Scale, dense: float) -> None:
    """To the right, the perplexity that a rise in loss (to the left, nats per token) gives: round numbers that have room."""
    side = ax.twinx()
    side.set_yscale(scale[0], **scale[1])
    side.set_ylim(ax.get_ylim())
    figure.draw_without_rendering()  # the layout is final
    low, high = np.exp(np.clip(ax.get_ylim(), -50, 50)) * dense
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    round_numbers = [dense, *(m * 10.0**k for m in (1, 2, 5, 3, 1.5, 4, 2.5, *np.arange(1.05, 10, 0.05).round(2)) for k in decades)]
    chosen: dict[float, float] = {}
    for value in (v for v in round_numbers if low <= v <= high):
        height = ax.transData.transform((0, math.log(value / dense)))[1] * 72 / figure.dpi
        if all(abs(height - other) >= GAP for other in chosen.values()):
            chosen[value] = height
    side.set_yticks(
        [math.log(value / dense) for value in chosen], [number(value) if value == dense else f"{value:,.10g}" for value in chosen]
    )
    side.set_yticks([], minor=True)
    side.set_ylabel(NAMES["ppl"])
    sns.despine(ax=side, left=True, right=False)
    ax.set_zorder(side.get_zorder() + 1)
    ax.patch.set_visible(False)


def _round(value: float) -> str:
    """A number of one or two digits, which many zeros follow."""
    if value < 1e5:
        return f"{value:,.10g}"
    power = math.floor(math.log10(value))
    first = round(value / 10.0**power, 1)
    return f"{'' if first == 1 else f'{first:g}×'}10{str(power).translate(SUPERSCRIPT)}"


def scatter_agreement(x: Mapping[int, Interval], y: Mapping[int, Interval], *, xlabel: str, ylabel: str) -> Figure:
    """One point per block (0-based index -> value), labelled with the block: does x, which is cheap, order blocks as y does?

    Intervals are said where a point is pointed at, and not drawn, so that the numbers of blocks have room.
    Raises ValueError when the blocks of x and y differ.
    """
    if set(x) != set(y):
        raise ValueError(f"x and y are of different blocks: {sorted(set(x) ^ set(y))}")
    blocks = sorted(x)
    xs, ys = np.array([x[b].value for b in blocks]), np.array([y[b].value for b in blocks])
    figure, ((ax,),) = canvas(width=WIDTH * 0.75, height=3.6)
    ax.scatter(xs, ys, s=18, color=PARTS["blocks"], zorder=3)
    at = [f"block {block}, {xlabel} {bounded(x[block])}" for block in blocks]
    note(ax, ylabel, at, xs, ys, *zip(*(y[block] for block in blocks), strict=True))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.margins(0.1)
    axis_scale(ax, "x", xs, margin=0.1)
    axis_scale(ax, "y", ys, margin=0.1)
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
