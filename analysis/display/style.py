"""How every figure looks: colours, lines, scales and ticks, each said once.

There are two alphabets of colours, and none means the other: those of a model's parts, and those of architectures. Both can be told
apart by colour-blind readers (Okabe and Ito, 2008; Tol, 2021), and markers or dashes say the same in grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MultipleLocator, NullFormatter

from adapters.registry import FAMILIES
from analysis.display.show import WIDTH

PARTS = {"blocks": "#0072B2", "mixers": "#E69F00", "ffns": "#009E73", "heads": "#6A1B4D", "experts": "#56B4E9"}
MARKERS = {"blocks": "o", "mixers": "s", "ffns": "^", "heads": "D", "experts": "P"}
HUES = {  # of architectures: a shade for each of its groups
    "Transformers": ("#332288", "#8877CC", "#5566AA"),
    "RWKVs": ("#CC3311", "#EE8866", "#882211"),
    "state-space models": ("#44AA99", "#66BBAA", "#005548"),
    "others": ("#555555", "#999999", "#222222"),
}
RECURRENT = {"rwkv": "RWKVs", "mamba": "state-space models", "jamba": "others"}  # families of Strata's own; its others are Transformers
DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (5, 1.5, 1, 1.5)))
ORDERS = ("#222222", "#0072B2", "#E69F00", "#009E73", "#AA4499", "#56B4E9", "#D55E00", "#CC79A7", "#8C6D31")
GREY = "0.35"  # what is not data: reference lines
UNCLEAR, EMPTY = "0.72", "0.84"  # what does not differ significantly: lines and points, and cells of a map
DENSE: dict[str, Any] = {"color": GREY, "linestyle": (0, (4, 3)), "linewidth": 0.9, "zorder": 1}
LEVEL: dict[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 1.1, "zorder": 1}
NAMES = {
    "ppl": "perplexity",
    "delta_nll": "rise in loss (nats per token)",
    "kl": "KL divergence (nats per token)",
    "bi": "Block Influence",
    "agreement": "share of tokens that agree",
    "delta_dense_nll": "rise in the text's loss (nats per token)",
}
Scale = tuple[str, dict[str, float]]  # matplotlib's name of it, and options
DEPTH = "relative depth (0: first block, 1: last)"


def canvas(rows: int = 1, columns: int = 1, *, height: float = 3.1, width: float = WIDTH, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure of the text's width (inches) and its axes (rows, columns). pyplot forgets it: nobody else would close it."""
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, **options)
    plt.close(figure)
    return figure, axes


def architecture(family: str) -> str:
    """What a model of a family (`ModelSpec.family`) is, as one of HUES; of families that others add nothing is known."""
    return RECURRENT.get(family, "Transformers" if family in FAMILIES.own else "others")


def scale_of(values: Iterable[float], usual: float = 0.5) -> Scale:
    """The axis that shows every value: "linear", "log" or "symlog", and matplotlib's options for it.

    Logarithmic when the values span more than a factor of 10. Differences around zero whose largest is more than 10
    times the usual one (a quantile) get a logarithm on either side of a linear part.
    """
    v = np.array([x for x in values if np.isfinite(x)], dtype=float)
    if not v.any():
        return "linear", {}
    if v.min() > 0:
        return ("log", {}) if v.max() > 10 * v.min() else ("linear", {})
    typical = float(np.quantile(np.abs(v[v != 0]), usual))
    return ("symlog", {"linthresh": 10.0 ** math.floor(math.log10(typical))}) if np.abs(v).max() > 10 * typical else ("linear", {})


def axis_scale(ax: Axes, axis: str, values: np.ndarray, *, usual: float = 0.5, margin: float = 0.05, also: Iterable[float] = ()) -> Scale:
    """Sets the axis that shows every value and ends with them, with plain numbers at its ticks; its label, set before, says where it
    is logarithmic. `also`: values that are shown and have no say in the scale, as ends of intervals."""
    name, options = scale_of(values, usual)
    if name == "linear":
        return name, options
    getattr(ax, f"set_{axis}scale")(name, **options)
    ticks = getattr(ax, f"{axis}axis")
    ticks.set_major_formatter(PLAIN)
    ticks.set_minor_formatter(NullFormatter())
    transform = ticks.get_transform()
    shown = np.append(values, list(also) if name == "symlog" else [])
    low, high = transform.transform(np.array([np.nanmin(shown), np.nanmax(shown)], dtype=float))
    pad = margin * (high - low)
    getattr(ax, f"set_{axis}lim")(*transform.inverted().transform(np.array([low - pad, high + pad])))
    if name == "log" and np.nanmax(values) < 100 * np.nanmin(values):
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))  # one power of ten alone would not show the range
    if label := getattr(ax, f"get_{axis}label")():
        getattr(ax, f"set_{axis}label")(f"{label}{BREAK[axis]}{said(name, options)}")
    return name, options


BREAK = {"x": ", ", "y": "\n"}  # before what is said of the scale
PLAIN = FuncFormatter(lambda x, _: f"{x:,.10g}".replace("-", "−"))


def said(name: str, options: dict[str, float]) -> str:
    """The scale in words."""
    return "log scale" if name == "log" else f"log scale beyond {options['linthresh']:,g}"


def clip(ax: Axes, top: float) -> None:
    """Ends the y axis at `top`; a triangle in its colour marks where a line leaves the figure. A line starts within it."""
    low = ax.get_ylim()[0]
    ax.set_ylim(low, top)
    for line in list(ax.lines):
        x, y = np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)
        if len(x) > 2 and (y > top).any() and (first := int(np.argmax(y > top))):
            at = np.interp(top, [y[first - 1], y[first]], [x[first - 1], x[first]])
            ax.plot(at, 1, marker="^", markersize=5, color=line.get_color(), transform=ax.get_xaxis_transform(), clip_on=False, zorder=5)


def robust(sizes: np.ndarray, times: float = 5.0) -> tuple[float, bool]:
    """Where an axis or a range of colours ends that a few outliers would eat, and whether there are some beyond.

    `times` the usual size where at most every tenth is larger, else the largest.
    """
    if not len(sizes) or not sizes.max() > 0:
        return 1.0, False
    most = times * float(np.median(sizes[sizes > 0]))
    return (most, True) if 0 < (sizes > most).mean() <= 0.1 else (float(sizes.max()), False)


def block_ticks(axis: Axis, n: int, most: int = 16) -> None:
    """Ticks at whole blocks, at most `most` of them for `n` blocks: each, or every second, fifth, tenth, ..."""
    step = next((s for s in (1, 2, 5, 10, 20, 50, 100) if n / s <= most), n)
    axis.set_major_locator(MultipleLocator(step))
