"""The figure of quantisation: what a smaller file costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from analysis.display.hover import note
from analysis.display.style import DENSE, GREY, NAMES, ORDERS, axis_scale, canvas


def trade_off(rises: pd.DataFrame) -> Figure:
    """The rise in loss of each model against the size of its file; `rises` as in `Quantised.rises`, the dense model first.

    A model without an interval is a point without a bar.
    """
    figure, ((ax,),) = canvas(height=3.4)
    size, y = rises["half"].to_numpy(dtype=float) / 1e6, rises["value"].to_numpy(dtype=float)
    bounds = rises[["ci_low", "ci_high"]].to_numpy(dtype=float)
    has = np.isfinite(bounds).all(axis=1)
    ax.axhline(0, **DENSE)
    ax.errorbar(size[has], y[has], yerr=np.abs(bounds[has] - y[has, None]).T, fmt="none", ecolor=GREY, elinewidth=1.0, capsize=2)
    for place, (title, x, value) in enumerate(zip(rises["model"], size, y, strict=True)):
        ax.scatter([x], [value], s=30, marker="osD^vPX"[place % 7], color=[ORDERS[place % len(ORDERS)]], zorder=3, label=title)
    note(ax, NAMES["delta_nll"], [f"{m} ({s:,.3g} MB)" for m, s in zip(rises["model"], size, strict=True)], size, y, y, *bounds.T)
    ax.set(xlabel="file with 16-bit floats (MB)", ylabel=NAMES["delta_nll"])
    axis_scale(ax, "y", y)
    ax.set_xlim(left=0)
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    sns.despine(ax=ax)
    return figure
