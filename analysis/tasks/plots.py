"""Figures of benchmarks: accuracy and chance-free losses without each part, hollow where chance would do as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.display import head_plots, model_lines
from analysis.display.format import number
from analysis.display.plots import points
from analysis.display.style import DENSE, LEVEL, block_ticks, canvas
from analysis.tasks.benchmark import PARTS, Benchmark

TITLES = {"accuracy": "accuracy", "loss": "loss of the correct option (nats)"}


def by_block(found: Benchmark, kind: str = "blocks") -> Figure:
    """Accuracy and loss without each block, side by side; the loss alone for a task without options (Figures 3 and 7 of the paper)."""
    if not found.has_options:
        figure, ((ax,),) = canvas()
        _panel(ax, found, kind, found.loss, "significant", found.loss_name, None)
        return figure
    figure, axes = canvas(1, 2, height=3.0)
    for ax, (part, (metric, filled)) in zip(axes.flat, PARTS.items(), strict=True):
        _panel(ax, found, kind, metric, filled, TITLES[part], found.chance[part])
    return figure


def _panel(ax: Axes, found: Benchmark, kind: str, metric: str, filled: str, title: str, chance: float | None) -> None:
    points(ax, found.rows(kind, metric, filled), kind)
    dense = found.dense(metric).value
    ax.axhline(dense, **DENSE, label=f"unpruned ({number(dense)})")
    if chance is not None:
        ax.axhline(chance, **LEVEL, label=f"guessing ({number(chance)})")
    ax.set(xlabel=f"{kind.removesuffix('s')} removed", ylabel=title)
    block_ticks(ax.xaxis, found.n_blocks, 10)
    handles = ax.get_legend_handles_labels()[0]
    shown = [handle for handle in handles if handle.get_label() != kind]
    ax.legend(handles=shown, ncols=2, loc="lower left", bbox_to_anchor=(0, 1.0), handlelength=1.6, handletextpad=0.4, columnspacing=1.0)
    sns.despine(ax=ax)


def accuracy_by_head(found: Benchmark) -> Figure:
    """A panel for each block (Figure 6 of the paper). Raises KeyError for a task without options."""
    rows = found.rows("heads", *PARTS["accuracy"])
    return head_plots.heads_by_block(rows, found.dense("acc").value, ylabel="accuracy", chance=found.chance["accuracy"])


def loss_by_head(found: Benchmark) -> Figure:
    """The rise of the loss without each head; a dot where it is not significant."""
    return head_plots.head_map(found.rows("heads", f"delta_{found.loss}", "significant"), f"rise in {found.loss_name}")


def overlaid(found: Sequence[Benchmark], labels: Mapping[str, tuple[str, str]]) -> Figure:
    """One task of several models over relative depth; `labels`: group and architecture of each model, for its colour."""
    parts = PARTS if found[0].has_options else {"loss": (found[0].loss, "significant")}
    figure, axes = canvas(1, len(parts), height=3.0)
    for ax, (part, (metric, filled)) in zip(axes.flat, parts.items(), strict=True):
        rows = pd.concat([_labelled(one, labels[one.model], metric, filled) for one in found], ignore_index=True)
        model_lines.lines_over_depth(ax, rows, TITLES[part] if found[0].has_options else found[0].loss_name)
        if found[0].has_options:
            ax.axhline(found[0].chance[part], **LEVEL, label="guessing")
    return model_lines.finished(figure, axes.flat[0])


def _labelled(found: Benchmark, label: tuple[str, str], metric: str, filled: str) -> pd.DataFrame:
    rows = found.rows("blocks", metric, filled)
    depth = rows["block"].astype(float) / max(1, found.n_blocks - 1)
    return rows.assign(model=found.model, group=label[0], architecture=label[1], depth=depth).replace({pd.NA: np.nan})
