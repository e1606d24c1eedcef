"""Figures of heads: a map, one panel a block, and all effects in their order."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.display.format import number
from analysis.display.hover import note
from analysis.display.style import DENSE, EMPTY, LEVEL, MARKERS, NAMES, PARTS, PLAIN, UNCLEAR, block_ticks, canvas, robust


def head_map(rows: pd.DataFrame, label: str = NAMES["delta_nll"], noun: str = "head") -> Figure:
    """What each head, or expert (`noun`), costs: these to the right, blocks that have any upwards; white is no effect, grey what does not
    differ significantly.

    `rows`: block, head (or expert), value, significant, and ci_low where intervals are known: without any, nothing is grey. Effects that
    would eat the colours (`style.robust`) are written into their cells.
    """
    unclear = ~rows["significant"].astype(bool)
    if "ci_low" in rows and rows["ci_low"].isna().all():
        unclear &= False
    grid = rows.assign(value=rows["value"].mask(unclear)).pivot(index="block", columns=noun, values="value")
    (n_blocks, n_heads), rungs = grid.shape, {block: y for y, block in enumerate(grid.index)}
    figure, ((ax,),) = canvas(height=min(8.5, 1.2 + 0.17 * n_blocks))
    most, beyond = robust(rows["value"][~unclear].abs().to_numpy(dtype=float))
    ax.set_facecolor(EMPTY)
    drawn = ax.imshow(grid, origin="lower", cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
    note_heads(ax, rows.assign(significant=~unclear), rows[noun], rows["block"].map(rungs), label, noun)
    for block, head, value in rows.loc[~unclear & (rows["value"].abs() > most), ["block", noun, "value"]].itertuples(index=False):
        ax.text(head, rungs[block], f"{value:.2g}".replace("-", "−"), ha="center", va="center", fontsize=6, color="white")
    ax.set(xlabel=noun, ylabel="block")
    block_ticks(ax.xaxis, n_heads)
    block_ticks(ax.yaxis, n_blocks)
    ax.yaxis.set_major_formatter(lambda y, _: str(grid.index[int(y)]) if y in rungs.values() else "")
    if unclear.any():
        grey = Patch(color=EMPTY, label=f"not significant ({unclear.sum()} of {len(rows)})")
        ax.legend(handles=[grey], loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)
    sns.despine(ax=ax, left=True, bottom=True)
    figure.colorbar(drawn, ax=ax, label=label, format=PLAIN, extend="both" if beyond else "neither")
    return figure


def heads_by_block(
    rows: pd.DataFrame, dense: float, *, columns: int = 5, ylabel: str = "perplexity", chance: float | None = None
) -> Figure:
    """Perplexity (or `ylabel`) without each head, one panel a block, with 95 % intervals (Figure 6 of the paper).

    `rows`: block, head, value, ci_low, ci_high, significant, which is False where points are hollow. The dashed line is the dense
    model, the dotted one `chance`, where there is such a thing. Outliers that would eat the axis are triangles at its end, and the
    title says how far they reach.
    """
    blocks = sorted(rows["block"].unique())
    height = math.ceil(len(blocks) / columns)
    figure, axes = canvas(height, columns, height=min(9.0, 0.5 + 1.15 * height), sharex=True, sharey=True)
    most, beyond = robust((rows["value"] - dense).abs().to_numpy(float), times=10)
    for ax, block in zip(axes.flat, blocks, strict=False):
        part = rows[rows["block"] == block].sort_values("head")
        x, y = part["head"].to_numpy(float), part["value"].to_numpy(float)
        low, high = part["ci_low"].to_numpy(float), part["ci_high"].to_numpy(float)
        ax.vlines(x, low, high, color=PARTS["heads"], linewidth=0.8)
        faces = [PARTS["heads"] if significant else "white" for significant in part["significant"]]
        ax.scatter(x, y, s=9, marker=MARKERS["heads"], c=faces, edgecolors=[PARTS["heads"]], linewidths=0.7, zorder=3)
        note_heads(ax, part, x, y, ylabel)
        ax.axhline(dense, **DENSE)
        if chance is not None:
            ax.axhline(chance, **LEVEL)
        ax.set_title(f"block {block}{_outliers(ax, part[(part['value'] - dense).abs() > most], dense)}", fontsize=8, pad=2)
        ax.tick_params(labelsize=7)
    inside = rows[(rows["value"] - dense).abs() <= most]
    shown = np.append(inside[["value", "ci_low", "ci_high"]].to_numpy(float), [dense] if chance is None else [dense, chance])
    low, high = np.nanmin(shown), np.nanmax(shown)
    axes.flat[0].set_ylim(low - 0.06 * (high - low), high + (0.12 if beyond else 0.06) * (high - low))
    block_ticks(axes.flat[0].xaxis, int(rows["head"].max()) + 1, 5)
    lowest_panels(axes, len(blocks))
    sns.despine(figure)
    figure.supxlabel("head removed", fontsize=9)
    figure.supylabel(ylabel, fontsize=9)
    return figure


def note_heads(ax: Axes, rows: pd.DataFrame, x: Iterable[float], y: Iterable[float], what: str, noun: str = "head") -> None:
    """Says which heads, or experts (`noun`), the values of `rows` are of, and where they do not differ significantly; `what` they are."""
    at = [f"{noun} {block}.{head}" for block, head in zip(rows["block"], rows[noun], strict=True)]
    ends = [rows[name] for name in ("ci_low", "ci_high") if name in rows]
    note(ax, what, at, x, y, rows["value"], *ends, significant=rows["significant"])


def _outliers(ax: Axes, part: pd.DataFrame, dense: float) -> str:
    """Marks heads whose effects lie beyond the axis; how far they reach, for the panel's title."""
    for head, value in part[["head", "value"]].itertuples(index=False):
        up = value > dense
        ax.plot(
            head, 0.97 if up else 0.03, marker="^" if up else "v", ms=4, color=PARTS["heads"], transform=ax.get_xaxis_transform(), zorder=4
        )
    return f" (to {number(max(part['value'].tolist(), key=lambda value: abs(value - dense)))})" if len(part) else ""


def lowest_panels(axes: np.ndarray, n: int) -> None:
    """Takes out the panels from the `n`th on; those above them get the tick labels of the axis that they shared."""
    for ax in axes.flat[n:]:
        ax.remove()
    for ax in axes.flat[max(0, n - axes.shape[1]) : n]:
        ax.tick_params(labelbottom=True)


def spread(rows: pd.DataFrame) -> Figure:
    """All effects in their order, with 95 % intervals, beside how many heads have which effect.

    `rows`: block, head, value, ci_low, ci_high, significant. Outliers that would eat the axis are triangles at its end.
    """
    rows = rows.sort_values("value", ignore_index=True)
    most, _ = robust(rows["value"].abs().to_numpy(dtype=float), times=10)
    far, inside = rows[rows["value"].abs() > most], rows[rows["value"].abs() <= most]
    figure, ((ax, side),) = canvas(1, 2, width_ratios=(4, 1), sharey=True)
    for significant, colour, label in ((True, PARTS["heads"], "significant"), (False, UNCLEAR, "not significant")):
        part = inside[inside["significant"] == significant]
        ax.vlines(part.index, part["ci_low"].astype(float), part["ci_high"].astype(float), color=colour, linewidth=0.6, alpha=0.6)
        n = int((rows["significant"] == significant).sum())
        ax.scatter(part.index, part["value"], s=6, color=colour, linewidths=0, zorder=3, label=f"{label} ({n})")
    for end, out in (("^", far[far["value"] > 0]), ("v", far[far["value"] < 0])):
        if len(out):
            reach = number(out["value"].max() if end == "^" else out["value"].min())
            ax.scatter(out.index, [0.98 if end == "^" else 0.02] * len(out), s=14, marker=end, color=PARTS["heads"], linewidths=0,
                       transform=ax.get_xaxis_transform(), label=f"beyond the axis, to {reach} ({len(out)})")  # fmt: skip
    note_heads(ax, rows, rows.index, rows["value"], NAMES["delta_nll"])
    ax.axhline(0, **DENSE)
    ax.set(xlabel="heads, from the smallest effect to the largest", ylabel=NAMES["delta_nll"], xlim=(-1, len(rows)))
    ax.legend(loc="upper left")
    side.hist(inside["value"], bins=26, orientation="horizontal", color=PARTS["heads"], alpha=0.7)
    side.set(xlabel="heads")
    side.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    sns.despine(figure)
    return figure
