"""Grids show the numbers of the table they got, each in its place."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from analysis.display import style
from analysis.importance import grids
from analysis.metrics.spans import all_spans
from tests.analysis.display import gallery


def test_profiles_draw_every_metric_and_kind():
    rows = [
        (kind, b, metric, value, 0.9 * value, 1.1 * value)
        for metric, scale in (("bi", 1.0), ("l2", 100.0))
        for kind in ("blocks", "mixers")
        for b in range(4)
        for value in [scale * 3**b + (kind == "mixers")]
    ]
    table = pd.DataFrame(rows, columns=["kind", "block", "metric", "value", "ci_low", "ci_high"]).sample(frac=1, random_state=0)
    figure = grids.profiles(table, {"bi": "BI", "l2": "L2"}, kinds=("blocks", "mixers"))
    assert [ax.get_title() for ax in figure.axes] == ["BI", "L2"], "no empty panel is left"
    for ax, scale in zip(figure.axes, (1.0, 100.0), strict=True):
        blocks, mixers = ax.lines
        assert np.array_equal(blocks.get_ydata(), scale * 3.0 ** np.arange(4))
        assert np.array_equal(mixers.get_ydata(), scale * 3.0 ** np.arange(4) + 1)
        assert ax.get_yscale() == "log"
        assert len(ax.collections) == 2, "a band for each"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["blocks", "mixers"]
    with pytest.raises(ValueError, match="no rows of metric 'taylor'"):
        grids.profiles(table, {"taylor": "Taylor"}, kinds=("blocks",))


def test_span_map_has_every_span_in_its_place():
    rows = [(start, length, "angular_last", 10.0 * length + abs(start - 1)) for start, length in all_spans(4)]
    table = gallery.bounded(pd.DataFrame(rows, columns=["start", "length", "metric", "value"])).sample(frac=1, random_state=0)
    ax = grids.span_map(table, label="angle").axes[0]
    drawn = ax.images[0].get_array()
    expected = [[10.0 * length + abs(start - 1) if start + length <= 4 else np.nan for start in range(4)] for length in (1, 2, 3, 4)]
    assert np.array_equal(drawn.filled(np.nan), expected, equal_nan=True)
    assert ax.images[0].get_extent() == [-0.5, 3.5, 0.5, 4.5]
    assert ax.collections[0].get_offsets().tolist() == [[1, 1], [1, 2], [1, 3], [0, 4]], "the least of each length"


def test_far_spans_from_the_first_block_do_not_eat_the_colours() -> None:
    ax, _ = grids.span_map(gallery.spans(), label="angle").axes
    others = gallery.spans().query("start > 0")["value"]
    assert ax.images[0].norm.vmax == others.max() < 0.5 * gallery.spans()["value"].max()


def test_agreement_shows_each_tau_with_its_interval_and_greys_what_holds_zero() -> None:
    taus, pairs = gallery.taus()
    ax, side, _ = grids.agreement(taus, pairs).axes
    values = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata()) == 1]
    assert values == [tau.value for tau in taus["blocks"].values()]
    for line in (line for line in ax.lines if len(line.get_xdata()) == 2 and list(line.get_xdata()) != [0, 0]):
        low, high = line.get_xdata()
        assert same_color(line.get_color(), style.UNCLEAR) == (low <= 0 <= high)
    drawn = side.images[0].get_array()
    for a, b, _, value, low, high in pairs.itertuples(index=False):
        row, column = list(taus["blocks"]).index(b), list(taus["blocks"]).index(a)
        assert np.ma.getmaskarray(drawn)[row, column] if low <= 0 <= high else drawn[row, column] == value
    assert not side.texts, "the table has the numbers"
