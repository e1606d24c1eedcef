"""What the points of a figure are: said to those who point at them, and summed up for those who cannot see them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.display.format import bounded, capital, count, number
from analysis.stats.intervals import Interval

MOST = 12  # series that a summary tells of
NOTES = "strata_notes"  # where a figure keeps them


class Note(NamedTuple):
    """One value of a figure: its series, what it is of, where it is drawn (data coordinates), the value with its interval, and whether
    it is shown as significant.
    """

    axes: Axes
    series: str
    at: str
    x: float
    y: float
    value: Interval
    significant: bool


def note(
    ax: Axes,
    series: str,
    at: Iterable[object],
    x: Iterable[float],
    y: Iterable[float],
    *values: Iterable[float | None],
    significant: Iterable[object] = (),
) -> None:
    """Says what is drawn at each (x, y): `series`, what it is of (`at`), and its value with the ends of its interval, where it has one.

    `values`: the values, or the values and both ends; without any they are `y`. `significant`: of each; false where the figure says
    that it is not (hollow, grey), and not given where it says nothing of it.
    """
    y = list(y)
    flags = list(significant) or [True] * len(y)
    columns = [list(column) for column in values or (y,)]
    columns += [[None] * len(y)] * (3 - len(columns))
    notes = vars(ax.get_figure(root=True)).setdefault(NOTES, [])
    for label, place, height, flag, value, *ends in zip(at, x, y, flags, *columns, strict=True):
        low, high = (None if pd.isna(end) else float(end) for end in ends)
        if not pd.isna(value):
            notes.append(Note(ax, series, str(label), float(place), float(height), Interval(float(value), low, high), bool(flag)))


def _notes(figure: Figure) -> list[Note]:
    return vars(figure).get(NOTES, [])


def pointed(figure: Figure) -> list[tuple[float, float, str]]:
    """Of each value where in the picture it is, in shares of its width and height from the upper left corner, and what it is.

    The layout must be final. What lies beyond its axes is at their end.
    """
    width, height = map(float, figure.bbox.size)
    found = []
    for one in _notes(figure):
        box = one.axes.bbox
        x, y = one.axes.transData.transform((one.x, one.y))
        if np.isfinite([x, y]).all():
            x, y = np.clip([x, y], [box.x0, box.y0], [box.x1, box.y1])
            label = ", ".join(filter(None, (one.series, one.at)))
            said = f"{label}: {bounded(one.value)}{', not significant' * (not one.significant)}"
            found.append((round(float(x) / width, 4), round(1 - float(y) / height, 4), said))
    return found


def seen(figure: Figure) -> str:
    """What the figure shows, as an alternative text: its axes, and of each series how many values and the least and the largest."""
    notes = _notes(figure)
    known: dict[tuple[str, str], float] = {}
    unlike = {one.series for one in notes if known.setdefault((one.series, one.at), one.value.value) != one.value.value}
    series: dict[str, dict[str, float]] = {}
    for one in notes:  # a series of which panels show different measures is one for each
        panel = _label(one.axes.get_title() or one.axes.get_ylabel()) if one.series in unlike else ""
        series.setdefault(f"{panel}, {one.series}" if panel else one.series, {})[one.at] = one.value.value
    said = [f"{name}: {_ends(values)}." for name, values in list(series.items())[:MOST]]
    more = [f"And {count(len(series) - MOST, 'more series')}."] if len(series) > MOST else []
    return " ".join([_axes(figure), *map(capital, said), *more]).strip()


def _ends(values: dict[str, float]) -> str:
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    if len(values) == 1:
        return f"{number(values[low])} ({low})" if low else number(values[low])
    return f"{count(len(values), 'value')}, from {number(values[low])} ({low}) to {number(values[high])} ({high})"


def _axes(figure: Figure) -> str:
    """ "Figure of rise in loss (nats per token) against block removed." """
    shown = [(_label(ax.get_ylabel()), _label(ax.get_xlabel()), _label(ax.get_title())) for ax in figure.axes]
    wide, high = (_label(text.get_text()) if text else "" for text in (figure._supxlabel, figure._supylabel))  # type: ignore[attr-defined]
    sides = [(y or high, x or wide) for y, x, _ in shown]
    across = [next(filter(None, labels), "") for labels in zip(*sides, strict=True)]  # what a map shows is named beside its colours
    named = [" against ".join(filter(None, pair)) for pair in (*filter(all, sides), across) if any(pair)][:1]
    titles = [title for _, _, title in shown if title]
    panels = f"{count(len(titles), 'panel')}: {', '.join(titles[:MOST])}" if len(titles) > 1 else ""
    said = "; ".join([*named, *([panels] if panels else [])])
    return f"Figure of {said}." if said else ""


def _label(text: str) -> str:
    return " ".join(text.split())
