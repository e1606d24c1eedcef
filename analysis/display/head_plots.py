"""Figures of heads and of removal paths."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.display.plots import MARKERS, NAMES, PALETTE, axis_scale, scale_of
from analysis.display.show import WIDTH


def head_map(rows: pd.DataFrame, label: str = NAMES["delta_nll"]) -> Figure:
    """What each head costs: heads to the right, blocks upwards, white is no effect; a dot where it is not significant.

    `rows`: block, head, value, significant. Colours grow with the logarithm where the largest effect is ten times the usual one.
    """
    grid = rows.pivot(index="block", columns="head", values="value")
    n_blocks, n_heads = grid.shape
    figure, ax = plt.subplots(figsize=(WIDTH, min(8.5, 1.2 + 0.17 * n_blocks)))
    drawn = ax.imshow(grid, origin="lower", cmap="RdBu_r", norm=_centred(rows["value"].to_numpy()), aspect="auto", interpolation="nearest")
    unclear = rows[~rows["significant"]]
    ax.scatter(unclear["head"], unclear["block"], s=4, color="0.25", linewidths=0, label="not significant")
    ax.set(xlabel="head", ylabel="block")
    for axis, n in ((ax.xaxis, n_heads), (ax.yaxis, n_blocks)):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=min(n, 16), min_n_ticks=1))
    if len(unclear):
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)
    sns.despine(ax=ax, left=True, bottom=True)
    plain = FuncFormatter(lambda x, _: f"{x:,.10g}".replace("-", "−"))
    figure.colorbar(drawn, ax=ax, label=label, format=plain)
    return figure


def _centred(values: np.ndarray) -> Normalize:
    """White at zero, and as far to one side as to the other."""
    most = float(np.abs(values).max()) or 1.0
    kind, options = scale_of(np.append(values, -values))  # of both signs, so that it never is logarithmic alone
    if kind == "symlog":
        return SymLogNorm(options["linthresh"], vmin=-most, vmax=most)
    return Normalize(-most, most)


def heads_by_block(
    rows: pd.DataFrame, dense: float, *, columns: int = 5, ylabel: str = "perplexity", chance: float | None = None
) -> Figure:
    """Perplexity (or `ylabel`) without each head, one panel a block, with 95 % intervals (Figure 6 of the paper).

    `rows`: block, head, value, ci_low, ci_high, significant, which is False where points are hollow. The dashed line is the dense
    model, the dotted one `chance`, where there is such a thing.
    """
    blocks = sorted(rows["block"].unique())
    height = math.ceil(len(blocks) / columns)
    figure, axes = plt.subplots(height, columns, figsize=(WIDTH, min(9.0, 0.5 + 1.15 * height)), sharex=True, sharey=True, squeeze=False)
    for ax, block in zip(axes.flat, blocks, strict=False):
        part = rows[rows["block"] == block].sort_values("head")
        x, y = part["head"].to_numpy(float), part["value"].to_numpy(float)
        low, high = part["ci_low"].to_numpy(float), part["ci_high"].to_numpy(float)
        ax.vlines(x, low, high, color=PALETTE["heads"], linewidth=0.8)
        faces = [PALETTE["heads"] if significant else "white" for significant in part["significant"]]
        ax.scatter(x, y, s=9, marker=MARKERS["heads"], c=faces, edgecolors=[PALETTE["heads"]], linewidths=0.7, zorder=3)
        ax.axhline(dense, color="0.35", linestyle=(0, (4, 3)), linewidth=0.7, zorder=1)
        if chance is not None:
            ax.axhline(chance, color="0.35", linestyle=":", linewidth=0.9, zorder=1)
        ax.set_title(f"block {block}", fontsize=7, pad=2)
        ax.tick_params(labelsize=6)
    axis_scale(axes.flat[0], "y", np.append(rows[["value", "ci_low", "ci_high"]].to_numpy(float), dense))
    axes.flat[0].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))
    for ax in axes.flat[len(blocks) :]:
        ax.remove()
    for ax in figure.axes:
        sns.despine(ax=ax)
    figure.supxlabel("head removed", fontsize=9)
    figure.supylabel(ylabel, fontsize=9)
    return figure


def spread(rows: pd.DataFrame) -> Figure:
    """All effects in their order, with 95 % intervals, beside how many heads have which effect.

    `rows`: value, ci_low, ci_high, significant.
    """
    rows = rows.sort_values("value", ignore_index=True)
    figure, (ax, side) = plt.subplots(1, 2, width_ratios=(4, 1), sharey=True, figsize=(WIDTH, 3.1))
    for significant, colour, label in ((True, PALETTE["heads"], "significant"), (False, "0.6", "not significant")):
        part = rows[rows["significant"] == significant]
        ax.vlines(part.index, part["ci_low"].astype(float), part["ci_high"].astype(float), color=colour, linewidth=0.6, alpha=0.6)
        ax.scatter(part.index, part["value"], s=5, color=colour, linewidths=0, zorder=3, label=f"{label} ({len(part)})")
    axis_scale(ax, "y", rows[["value", "ci_low", "ci_high"]].to_numpy(float).ravel())
    if ax.get_yscale() != "log":
        ax.axhline(0, color="0.35", linestyle=(0, (4, 3)), linewidth=0.7, zorder=1)
    ax.set(xlabel="heads, from the smallest effect to the largest", ylabel=NAMES["delta_nll"])
    ax.legend(loc="upper left")
    edges = ax.transData.inverted().transform(np.column_stack([np.zeros(26), np.linspace(*_pixels(ax, rows["value"]), 26)]))[:, 1]
    side.hist(rows["value"], bins=np.unique(edges).tolist(), orientation="horizontal", color=PALETTE["heads"], alpha=0.7)
    side.set(xlabel="heads")
    side.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    sns.despine(figure)
    return figure


def _pixels(ax: plt.Axes, values: pd.Series) -> tuple[float, float]:
    """Where the least and the largest value stand on the axis: bins of a histogram are as high on any scale."""
    low, high = ax.transData.transform([(0, float(values.min())), (0, float(values.max()))])[:, 1]
    return low - 1, high + 1
