"""The figure of a run whose parts are not known beforehand: a profile over depth, a map of heads or a list of sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from adapters.errors import StrataError, unknown
from analysis.display.head_plots import head_map
from analysis.display.hover import note
from analysis.display.plots import depth_profile, significant
from analysis.display.style import NAMES, PARTS, UNCLEAR, axis_scale, canvas

PROFILED = ("blocks", "mixers", "ffns")
FLAGS = ("significant", "beats_chance")
FIRST = ("delta_nll", "delta_log_loss", "delta_acc")  # what is drawn where no metric is named


def overview(table: pd.DataFrame, metric: str | None = None, kinds: Sequence[str] = ()) -> Figure:
    """A metric of all parts of some kinds, or of those that fit into one figure, with 95 % intervals.

    Parts that leave their means behind are a kind of their own, for example `heads (mean)`.

    `table`: tidy, of one model; of several datasets the first is drawn. Raises StrataError on a metric or kind that it does not hold.
    """
    table = table.assign(label=table["kind"] + np.where(table["ablation"].str.endswith("(mean)"), " (mean)", ""))
    parts = table[table["kind"] != "dense"]
    if parts.empty:
        raise StrataError("the run is of the unpruned model alone, and there is no part to draw: sweep ablations")
    known = [name for name in parts["metric"].unique() if name not in FLAGS]
    metric = metric or next((name for name in FIRST if name in known), known[0])
    if metric not in known:
        raise unknown("metric", metric, known)
    found = list(parts["label"].unique())
    if bad := [kind for kind in kinds if kind not in found]:
        raise unknown("kind", bad[0], found)
    chosen = list(kinds) or (found if "set" in found else [kind for kind in found if kind in PROFILED] or found[:1])
    rows = _with_flag(table, metric)
    rows = rows[rows["label"].isin([*chosen, "dense"])]
    drawn = list(rows[rows["kind"] != "dense"]["kind"].unique())
    if set(drawn) <= set(PROFILED) and len(drawn) == len(chosen):
        return depth_profile(rows, metric, kinds=drawn)
    rows = rows[rows["kind"].isin(drawn)]
    if drawn in (["heads"], ["kv_groups"], ["experts"]) and len(chosen) == 1:
        noun = "expert" if drawn == ["experts"] else "head"
        return head_map(rows.assign(significant=rows.get("significant", True)), NAMES.get(metric, metric), noun)
    return listed(rows, metric)


def listed(rows: pd.DataFrame, metric: str) -> Figure:
    """One line for each ablation, the first above, with its interval; grey where `significant`, when there, is False."""
    figure, ((ax,),) = canvas(height=0.8 + 0.22 * len(rows))
    value, low, high = rows[["value", "ci_low", "ci_high"]].to_numpy(dtype=float).T
    place = np.arange(len(rows))
    clear = significant(rows)
    colours = [PARTS["blocks"] if yes else UNCLEAR for yes in clear]
    ax.hlines(place, low, high, color=colours, linewidth=1)
    ax.scatter(value, place, s=18, color=colours, zorder=3)
    note(ax, NAMES.get(metric, metric), rows["ablation"], value, place, value, low, high, significant=clear)
    ax.set_yticks(place, [name if len(name) < 50 else f"{name[:47]}..." for name in rows["ablation"]], parse_math=False)
    ax.invert_yaxis()
    ax.set_xlabel(NAMES.get(metric, metric), parse_math=False)
    axis_scale(ax, "x", rows[["value", "ci_low", "ci_high"]].to_numpy(dtype=float).ravel())
    sns.despine(ax=ax)
    return figure


def _with_flag(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rows of the metric in its first dataset; a difference gets the column `significant`, where that was decided."""
    rows = table[table["metric"] == metric]
    dataset = rows["dataset"].iloc[0]
    rows, flags = rows[rows["dataset"] == dataset], table[(table["metric"] == "significant") & (table["dataset"] == dataset)]
    if flags.empty or not metric.startswith("delta_"):
        return rows
    decided = flags.set_index("ablation")["value"] == 1
    return rows.assign(significant=rows["ablation"].map(decided).ne(False))
