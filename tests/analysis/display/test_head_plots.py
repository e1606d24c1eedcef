"""Figures of heads show the numbers of the table they got, each in its place."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from analysis.display import head_plots, style
from analysis.display.removal_plots import Panel, distinct, removal_curves


def rows(extreme: float = 0.03) -> pd.DataFrame:
    table = pd.DataFrame({"block": np.repeat(range(3), 4), "head": np.tile(range(4), 3), "value": 0.001 * np.arange(-4.0, 8)})
    table.loc[2, "value"] = extreme
    table = table.assign(ci_low=table["value"] - 0.002, ci_high=table["value"] + 0.002, significant=table["value"].abs() > 0.003)
    return table.sample(frac=1, random_state=0)


@pytest.mark.parametrize("extreme", [0.009, 3.0])
def test_head_map_is_centred_on_no_effect_and_grey_where_nothing_is_significant(extreme: float) -> None:
    table = pd.concat([rows(extreme), rows(0.001 * -2).assign(block=lambda t: t["block"] + 3)])
    ax = head_plots.head_map(table).axes[0]
    (image,) = ax.images
    drawn = image.get_array()
    for block, head, value, significant in table[["block", "head", "value", "significant"]].itertuples(index=False):
        assert drawn[block, head] == value if significant else drawn.mask[block, head]
    assert same_color(ax.get_facecolor(), style.EMPTY)
    assert float(image.norm(0.0)) == pytest.approx(0.5)
    assert image.norm.vmax == -image.norm.vmin <= 0.03, "one effect does not eat the colours"
    assert [t.get_text() for t in ax.texts] == (["3"] if extreme == 3.0 else []), "it is written into its cell"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [f"not significant ({(~table['significant']).sum()} of 24)"]


def test_without_intervals_no_cell_is_grey() -> None:
    table = rows().assign(ci_low=np.nan, ci_high=np.nan, significant=False)
    ax = head_plots.head_map(table).axes[0]
    assert not np.ma.getmaskarray(ax.images[0].get_array()).any()
    assert ax.get_legend() is None


def test_blocks_without_heads_have_no_row() -> None:
    """Of a hybrid: what is drawn above the other is the next block that has some, under its own number."""
    table = pd.concat([rows(-0.002), rows(3.0).assign(block=lambda t: t["block"] + 3)])
    figure = head_plots.head_map(table.assign(block=4 + 8 * table["block"]))
    ax = figure.axes[0]
    figure.canvas.draw()
    assert ax.images[0].get_array().shape == (6, 4)
    assert [t.get_text() for t in ax.get_yticklabels() if t.get_text()] == ["4", "12", "20", "28", "36", "44"]
    assert [t.get_position() for t in ax.texts] == [(2, 3)], "an outlier stands in its cell"


def test_heads_by_block_has_a_panel_for_each() -> None:
    table = rows()
    table[["value", "ci_low", "ci_high"]] += 17
    axes = head_plots.heads_by_block(table, 17.0, columns=2).axes
    assert [ax.get_title() for ax in axes] == ["block 0", "block 1", "block 2"]
    assert all(ax.xaxis.get_tick_params()["labelbottom"] for ax in axes[1:]), "the lowest of each column has labels"
    for block, ax in enumerate(axes):
        part = table[table["block"] == block].sort_values("head")
        points = ax.collections[-1]
        assert np.array_equal(points.get_offsets(), part[["head", "value"]].to_numpy())
        hollow = (points.get_facecolors()[:, :3] == 1).all(1)
        assert hollow.tolist() == (~part["significant"]).tolist()
        assert ax.lines[0].get_ydata()[0] == 17.0


def test_an_outlier_does_not_eat_the_axis_of_all_panels() -> None:
    table = rows(9.0)
    table[["value", "ci_low", "ci_high"]] += 17
    axes = head_plots.heads_by_block(table, 17.0).axes
    assert [ax.get_title() for ax in axes] == ["block 0 (to 26.0)", "block 1", "block 2"]
    assert axes[0].get_ylim()[1] < 17.1
    (triangle,) = [line for line in axes[0].lines if line.get_marker() == "^"]
    assert list(triangle.get_xdata()) == [2]


@pytest.mark.parametrize("extreme", [0.009, 3.0])
def test_spread_orders_all_heads(extreme: float) -> None:
    table = rows(extreme)
    ax, side = head_plots.spread(table).axes
    inside = table[table["value"] < 1]["value"]
    drawn = np.concatenate([c.get_offsets() for c in ax.collections if str(c.get_label()).startswith(("significant", "not"))])
    assert np.array_equal(drawn[drawn[:, 0].argsort()][:, 1], np.sort(inside))
    assert sum(bar.get_width() for bar in side.patches) == len(inside)
    said = [t.get_text() for t in ax.get_legend().get_texts()]
    assert said == ["significant (6)", "not significant (6)"] + (["beyond the axis, to 3.00 (1)"] if extreme == 3.0 else [])
    assert ax.get_ylim()[1] < 0.1, "one effect does not eat the axis"


def test_removal_curves_draw_every_path_in_every_panel() -> None:
    path = pd.DataFrame(
        {"a": [0, 0.1, 0.2], "b": [0, 0.3, 0.4], "value": [0, 1, 40.0], "ci_low": [np.nan, 0.5, 30], "ci_high": [np.nan, 2, 50]}
    )
    table = pd.concat([path.assign(order="blocks"), path.assign(order="heads", value=0.1 * path["value"])])
    figure = removal_curves(table, {"blocks": "Blocks", "heads": "Heads"}, [Panel(x, f"{x} saved", ("blocks", "heads")) for x in "ab"])
    assert [ax.get_xlabel() for ax in figure.axes] == ["a saved", "b saved"]
    for x, ax in zip("ab", figure.axes, strict=True):
        assert [line.get_ydata().tolist() for line in ax.lines] == [[0, 1, 40], [0, 0.1, 4]]
        assert ax.lines[0].get_xdata().tolist() == path[x].tolist()
        assert len(ax.collections) == 2, "a band for each"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["Blocks", "Heads"]


def test_what_looks_the_same_is_drawn_once() -> None:
    path = pd.DataFrame({"removed": [0, 1, 2], "a": [0, 0.1, 0.2], "b": [0, 0.05, 0.1], "c": [0, 0.1, 0.3]})
    table = pd.concat([path.assign(order="x"), path.assign(order="y")])
    panels = [Panel(column, f"{column} saved", ("x", "y")) for column in "abc"]
    assert [panel.label for panel in distinct(table, panels)] == ["a saved\n(b 0.5 times that)", "c saved"]
    assert [panel.column for panel in distinct(table, panels, [Panel("removed", "blocks removed", ("x", "y"))])] == ["c"]
    both = distinct(table, [Panel("removed", "blocks removed", ("x", "y")), panels[0]])
    assert [panel.label for panel in both] == ["blocks removed\n(each 10 % of a)"]
    other = [Panel("removed", "blocks removed", ("x",))]
    assert [panel.column for panel in distinct(table, panels, other)] == ["a", "c"], "other orders are another panel"
