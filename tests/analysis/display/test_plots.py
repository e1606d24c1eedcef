"""Figures show the numbers of the table they got, on an axis that shows them all."""

import io
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from analysis.display import hover, plots, show, style
from analysis.stats.intervals import Interval
from tests.analysis.display import gallery

PPL = [55097.0, 301.0, 18.4, 17.8, 332.0]


def sweep_table() -> pd.DataFrame:
    rows = [{"kind": "dense", "block": None, "metric": "ppl", "value": 17.2, "significant": True}]
    for kind in ("blocks", "mixers"):
        rows += [
            {"kind": kind, "block": b, "metric": "ppl", "value": p, "ci_low": 0.9 * p, "ci_high": 1.2 * p, "significant": b != 3}
            for b, p in enumerate(PPL)
        ]
    rows += [{"kind": "blocks", "block": 0, "metric": "kl", "value": 1.0}]
    table = pd.DataFrame(rows).sample(frac=1, random_state=0)  # row order means nothing
    table.loc[table["block"] == 2, ["ci_low", "ci_high"]] = None
    return table


@pytest.fixture
def shown(monkeypatch):
    """What would be displayed: [(data, metadata)]."""
    seen = []
    monkeypatch.setattr(show, "display", lambda data, metadata=None, raw=False: seen.append((data, metadata)))
    return seen


def test_depth_profile_draws_the_table():
    (ax,) = plots.depth_profile(sweep_table(), "ppl", kinds=("blocks", "mixers")).axes
    points = [c for c in ax.collections if len(c.get_offsets()) == len(PPL)]
    assert len(points) == 2
    for drawn in points:
        assert np.array_equal(drawn.get_offsets()[:, 1], PPL)
        assert np.array_equal(np.round(drawn.get_offsets()[:, 0]), range(len(PPL)))
        assert [same_color(face, "white") for face in drawn.get_facecolors()] == [False, False, False, True, False]
    bars = [c.get_segments() for c in ax.collections if hasattr(c, "get_segments")]
    assert [len(s) for s in bars] == [4, 4], "a value without an interval has no bar"
    assert np.allclose([s[:, 1] for s in bars[0]], [(0.9 * p, 1.2 * p) for b, p in enumerate(PPL) if b != 2])
    assert ax.get_yscale() == "log"
    assert {"blocks", "mixers", "unpruned (17.2)", "not significant"} == {t.get_text() for t in ax.get_legend().get_texts()}


def test_rise_has_a_second_axis_that_says_what_perplexity_it_gives() -> None:
    table = gallery.sweep()
    ax, side = plots.depth_profile(table, "delta_nll", perplexity=17.2).axes
    assert side.get_ylim() == ax.get_ylim()
    assert side.get_yscale() == ax.get_yscale() == "symlog"
    ticks = {label.get_text(): place for label, place in zip(side.get_yticklabels(), side.get_yticks(), strict=True)}
    assert ticks["17.2"] == 0
    assert ticks["100"] == pytest.approx(np.log(100 / 17.2))
    assert ax.get_ylim()[0] > -0.01, "the axis ends where the data do"
    (behind,) = [line for line in plots.depth_profile(table, "delta_nll", kinds=("ffns",), behind=("blocks",)).axes[0].lines
                 if line.get_label() == "blocks"]  # fmt: skip
    assert np.array_equal(behind.get_ydata(), gallery.rises())


def test_kind_without_rows_is_an_error():
    with pytest.raises(ValueError, match="no rows of kind 'ffns'"):
        plots.depth_profile(sweep_table(), "ppl", kinds=("ffns",))


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (PPL, "log"),
        ([17.2, 18.0, 25.0], "linear"),
        ([-0.01, 0.02, 0.03, 8.0], "symlog"),
        ([-0.2, 0.1, 0.3], "linear"),
        ([0.0, 0.0], "linear"),
        ([], "linear"),
        ([float("nan"), 1.0, 20.0], "log"),
    ],
)
def test_scale_of(values, scale):
    assert style.scale_of(values)[0] == scale


def test_scatter_labels_every_block():
    x, y = {3: Interval(0.1, 0.05, 0.15), 4: Interval(0.2, None, None)}, {4: Interval(2.0, 1.5, 2.5), 3: Interval(1.0, None, None)}
    figure = plots.scatter_agreement(x, y, xlabel="BI", ylabel="nll")
    (ax,) = figure.axes
    assert np.array_equal(ax.collections[0].get_offsets(), [(0.1, 1.0), (0.2, 2.0)])
    assert [t.get_text() for t in ax.texts] == ["3", "4"]
    said = [said for *_, said in hover.pointed(figure)]
    assert said == ["nll, block 3, BI 0.100 (0.0500 to 0.150): 1.00", "nll, block 4, BI 0.200: 2.00 (1.50 to 2.50)"]
    with pytest.raises(ValueError, match=r"different blocks: \[4\]"):
        plots.scatter_agreement(x, {3: y[3]}, xlabel="BI", ylabel="nll")


def test_show_keeps_the_caption_with_the_figure(shown):
    show.figure(plots.depth_profile(sweep_table(), "ppl"), "A sentence.")
    (data, metadata), (_, hidden) = shown
    assert data["image/svg+xml"].startswith("<?xml")
    assert metadata["strata"]["caption"] == "A sentence."
    assert hidden == {"strata": {"hidden": True}}


def test_table_is_markdown_with_plain_cells(shown):
    show.table(
        pd.DataFrame({"block": [0, 1], "ppl": [55097.4, None], "name": ["a|b $x$", "c"], "significant": [True, False]}), "A sentence."
    )
    data, metadata = shown[1]
    assert [[cell.strip() for cell in line.strip("|").split(" | ")] for line in data["text/markdown"].splitlines()[2:]] == [
        ["0", "55,097", r"a\|b \$x\$", "yes"],
        ["1", "", "c", "no"],
    ]
    assert metadata == {"strata": {"caption": "A sentence."}}


def test_names_reach_a_figure_as_they_are_read(shown):
    """A dollar is no mathematics (this one would not even parse), and what XML forbids is shown."""
    name = "a $\\frac$ \x1b[31m\x00 " + b"\xe9".decode(errors="surrogateescape")
    with plt.rc_context():
        show.setup()
        figure, ax = plt.subplots()
        ax.plot([1, 2], [1, 2], label=name)
        ax.set(xlabel=name, title=f"{name}\nsecond line")
        ax.legend()
        show.figure(figure, "A sentence.")
    read = "a $\\frac$ \\x1b[31m\\x00 \\udce9"
    assert [t.get_text() for t in (ax.xaxis.label, ax.title, *ax.get_legend().texts)] == [read, f"{read}\nsecond line", read]
    comments = [text for _, text in ElementTree.iterparse(io.BytesIO(shown[0][0]["image/svg+xml"].encode()), events=["comment"])]
    assert sum((comment.text or "").strip() == read for comment in comments) == 3, "each text stands as a comment beside its paths"
