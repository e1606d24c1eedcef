"""Grids show the numbers of the table they got, each in its place."""

import numpy as np
import pandas as pd
import pytest

from analysis.importance import grids
from analysis.metrics.spans import all_spans


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
    table = pd.DataFrame(rows, columns=["start", "length", "metric", "value"]).sample(frac=1, random_state=0)
    ax = grids.span_map(table, label="angle").axes[0]
    drawn = ax.images[0].get_array()
    expected = [[10.0 * length + abs(start - 1) if start + length <= 4 else np.nan for start in range(4)] for length in (1, 2, 3, 4)]
    assert np.array_equal(drawn.filled(np.nan), expected, equal_nan=True)
    assert ax.images[0].get_extent() == [-0.5, 3.5, 0.5, 4.5]
    assert ax.collections[0].get_offsets().tolist() == [[1, 1], [1, 2], [1, 3], [0, 4]], "the least of each length"


def test_correlation_map_has_kendall_below_and_spearman_above():
    rows = [("a", "b", "kendall", 0.5, 0.4, 0.6), ("a", "b", "spearman", -0.7, -0.8, 0.1), ("a", "c", "kendall", 0.2, None, None)]
    ax = grids.correlation_map(
        pd.DataFrame(rows, columns=["a", "b", "statistic", "value", "ci_low", "ci_high"]).astype({"ci_low": float})
    ).axes[0]
    drawn = ax.images[0].get_array().filled(np.nan)
    assert (drawn[1, 0], drawn[0, 1], drawn[2, 0]) == (0.5, -0.7, 0.2)
    assert np.isnan(drawn.diagonal()).all()
    assert {t.get_position(): t.get_text() for t in ax.texts} == {(0, 1): "0.50", (1, 0): "(−0.70)", (0, 2): "0.20"}
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
