"""What is said of a point lies where the point is drawn, and a figure's alternative text says what is in it."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.display import plots, removal_plots
from analysis.display.hover import note, pointed, seen


def plain() -> Figure:
    """Axes that fill the picture: 10 to the right, 100 upwards."""
    figure = Figure(figsize=(4, 2))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 10), ylim=(0, 100), xlabel="block removed", ylabel="rise in loss\n(nats)")
    note(ax, "blocks", ["block 2", "block 5", "block 9"], [2, 5, 9], [25, 400, 50], [0.25, 4.0, 0.5], [0.2, np.nan, None], [0.3, None, 1])
    return figure


def test_points_lie_where_they_are_drawn_and_say_their_interval() -> None:
    assert pointed(plain()) == [
        (0.2, 0.75, "blocks, block 2: 0.250 (0.200 to 0.300)"),
        (0.5, 0.0, "blocks, block 5: 4.00"),  # beyond the axis: at its end
        (0.9, 0.5, "blocks, block 9: 0.500"),
    ]


def test_the_alternative_text_says_what_is_seen() -> None:
    assert seen(plain()) == "Figure of rise in loss (nats) against block removed. Blocks: 3 values, from 0.250 (block 2) to 4.00 (block 5)."


def test_panels_of_different_measures_are_told_apart() -> None:
    figure = Figure()
    for ax, title, value in zip(figure.subplots(1, 2), ("bits", "share"), (3.0, 0.5), strict=True):
        ax.set_title(title)
        note(ax, "Llama", ["block 0"], [0], [value])
        note(ax, "same", ["block 0"], [0], [1.0])
    assert seen(figure).endswith("bits, share. Bits, Llama: 3.00 (block 0). Same: 1.00 (block 0). Share, Llama: 0.500 (block 0).")


def test_a_figure_of_which_nothing_was_noted() -> None:
    assert seen(Figure()) == ""
    assert pointed(Figure()) == []


def swept(values: list[float]) -> pd.DataFrame:
    rows = pd.DataFrame({"kind": "blocks", "block": range(len(values)), "metric": "delta_nll", "value": values})
    return rows.assign(ci_low=rows["value"] - 0.05, ci_high=rows["value"] + 0.05)


@pytest.mark.parametrize("values", [[0.1, 0.3, 0.2, 0.6], [0.001, 5.0, -0.02, 0.03, 0.02]])
def test_points_of_a_profile_are_those_of_its_picture(values: list[float]) -> None:
    """Held against the coordinates in the SVG, on a linear and on a bent axis."""
    figure, svg = plots.depth_profile(swept(values), "delta_nll"), io.StringIO()
    figure.savefig(svg, format="svg")
    tree = ElementTree.fromstring(svg.getvalue())
    width, height = map(float, tree.attrib["viewBox"].split()[2:])
    drawn = np.array([(float(e.attrib["x"]) / width, float(e.attrib["y"]) / height) for e in tree.iter() if "x" in e.attrib])
    found = pointed(figure)
    assert len(found) == len(values)
    assert all(np.abs(drawn - [x, y]).max(1).min() < 0.004 for x, y, _ in found)
    assert [float(re.sub("−", "-", said.split()[3])) for *_, said in found] == values


def test_points_of_removal_orders() -> None:
    table = pd.DataFrame({"order": "bi", "removed": [0.0, 1.0], "value": [0.0, 0.2], "ci_low": [0.0, 0.1], "ci_high": [0.0, 0.3]})
    figure = removal_plots.removal_curves(table, {"bi": "Block Influence"}, [removal_plots.Panel("removed", "blocks removed", ("bi",))])
    assert [said for *_, said in pointed(figure)][1] == "Block Influence, 1 removed: 0.200 (0.100 to 0.300)"
