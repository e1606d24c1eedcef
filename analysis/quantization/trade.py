"""The figure of quantisation: what a smaller file costs."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from analysis.display.plots import axis_scale
from analysis.display.show import WIDTH


def trade_off(rises: pd.DataFrame) -> Figure:
    """The rise in loss of each model against the size of its file; `rises` as in `Quantised.rises`, the dense model first.

    A model without an interval is a point without a bar.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 3.4))
    size, y = rises["half"].to_numpy(dtype=float) / 1e6, rises["value"].to_numpy(dtype=float)
    bounds = rises[["ci_low", "ci_high"]].to_numpy(dtype=float)
    has = np.isfinite(bounds).all(axis=1)
    colours = sns.color_palette("colorblind", len(rises))
    ax.axhline(0, color="0.35", linestyle=(0, (4, 3)), linewidth=0.9, zorder=1)
    ax.errorbar(size[has], y[has], yerr=np.abs(bounds[has] - y[has, None]).T, fmt="none", ecolor="0.5", elinewidth=1.0, capsize=2)
    for place, (title, x, value) in enumerate(zip(rises["model"], size, y, strict=True)):
        ax.scatter([x], [value], s=30, marker="osD^vPX"[place % 7], color=[colours[place]], zorder=3, label=title)
    axis_scale(ax, "y", y)
    ax.set(xlabel="file with 16-bit floats (MB)", ylabel="rise in loss (nats per token)")
    ax.set_xlim(left=0)
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    sns.despine(ax=ax)
    return figure
