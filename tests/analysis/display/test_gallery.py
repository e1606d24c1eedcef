"""What holds of every figure: letters that do not cover each other, axes that show the data, colours that all readers can tell apart."""

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from adapters.registry import FAMILIES
from analysis.display import hover, model_lines, show, style
from tests.analysis.display import gallery

FIGURES = gallery.every()
WHOLE = ("removal-map",)  # figures of places in an order, which have no intervals
# Machado, Oliveira and Fernandes (2009): what readers without one kind of cone see of linear RGB
SIGHT = {
    "normal": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
}


@pytest.fixture(autouse=True)
def styled() -> Iterator[None]:
    with plt.rc_context():
        show.setup()
        yield


@pytest.fixture(params=FIGURES)
def figure(request: pytest.FixtureRequest) -> Figure:
    made = FIGURES[request.param]()
    made.draw_without_rendering()
    return made


def letters(figure: Figure) -> Iterator[Text]:
    """That are seen, but for those at points of the data."""
    for ax in figure.axes:
        yield ax.title
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-6 * (high - low)
            ticks = [tick for tick in axis.get_major_ticks() if low - slack <= tick.get_loc() <= high + slack]
            if axis.get_visible():
                yield from (axis.label, *(label for tick in ticks for label in (tick.label1, tick.label2)))
    for legend in [*figure.legends, *filter(None, (ax.get_legend() for ax in figure.axes))]:
        yield from legend.get_texts()
    yield from figure.texts


def test_no_letters_cover_others_or_leave_the_figure(figure: Figure) -> None:
    seen = [text for text in letters(figure) if text.get_visible() and text.get_text().strip() and not text.get_rotation() % 90]
    drawn = {text: text.get_window_extent() for text in seen}
    assert len(drawn) > 3
    edge = figure.bbox.padded(1)
    for text, box in drawn.items():
        assert edge.containsx(box.x0), text.get_text()
        assert edge.containsx(box.x1), text.get_text()
        assert edge.containsy(box.y0), text.get_text()
        assert edge.containsy(box.y1), text.get_text()
    for (a, one), (b, two) in combinations(drawn.items(), 2):
        width, height = min(one.x1, two.x1) - max(one.x0, two.x0), min(one.y1, two.y1) - max(one.y0, two.y0)
        assert min(width, height) <= 1, f"{a.get_text()!r} covers {b.get_text()!r}"


def test_letters_are_read_in_print(figure: Figure) -> None:
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()) >= 6
    assert max(text.get_fontsize() for text in figure.findobj(Text)) <= 12
    assert figure.get_figwidth() <= show.WIDTH + 0.01, "letters keep their size on the page"


def test_every_panel_names_its_quantity_the_same_way(figure: Figure) -> None:
    said = " ".join(text.get_text() for text in figure.findobj(Text))
    assert not {"nll", "Δ"} & set(said.replace("one-shot nll", "").split())
    for ax in figure.axes:
        assert ax.get_xlabel() or ax.get_ylabel() or ax.get_title() or ax.images, "a map has its names at its rows and columns"


def test_every_figure_says_its_values_and_what_it_shows(figure: Figure, request: pytest.FixtureRequest) -> None:
    """To a pointer with intervals, wherever there are any, and to those who see no pictures."""
    said = [text for *_, text in hover.pointed(figure)]
    assert len(said) > 5
    whole = request.node.callspec.params["figure"] in WHOLE
    assert all(re.search(r"^.+: \S+" + ("$" if whole else r" \(\S+ to \S+\)(, not significant)?$"), text) for text in said)
    alt = hover.seen(figure)
    assert re.match(r"Figure of .+?[.;]", alt)
    assert re.search(r": (\d+ values, from .+ to .+|\S+ \(.+\))\.", alt)


@pytest.mark.parametrize("name", ["parts", "head-map", "heads-by-block", "spread"])
def test_what_is_drawn_as_not_significant_is_said_to_be(name: str) -> None:
    said = [text.endswith(", not significant") for *_, text in hover.pointed(FIGURES[name]())]
    assert any(said)
    assert not all(said)


def test_figures_are_nobody_elses() -> None:
    before = plt.get_fignums()
    for make in FIGURES.values():
        make()
    assert plt.get_fignums() == before, "pyplot keeps none of them open"


def test_pages_are_written(tmp_path: Path) -> None:
    page = gallery.page(tmp_path, dpi=40)
    assert {file.stem for file in tmp_path.iterdir()} == {*FIGURES, "page"}
    assert matplotlib.image.imread(page).shape[0] > 1000


def lab(colour: str, sight: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of what is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(sight @ linear, 0, 1)
    t = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_that_stand_in_one_figure_are_told_apart(sight: str) -> None:
    seen = SIGHT[sight]
    for together in (list(style.PARTS.values()), [shades[0] for shades in style.HUES.values()]):
        for a, b in combinations(together, 2):
            assert np.linalg.norm(lab(a, seen) - lab(b, seen)) > 20, f"{a} and {b}"


def test_lines_stand_out_from_paper() -> None:
    """By their lightness, which is all that print in grey keeps."""
    for colour in (*style.PARTS.values(), *style.ORDERS, *(shade for shades in style.HUES.values() for shade in shades)):
        assert lab(colour, SIGHT["normal"])[0] < 75, colour


def test_one_hue_an_architecture() -> None:
    assert {style.architecture(family) for family in FAMILIES.own} == {
        "Transformers",
        "RWKVs",
        "state-space models",
        "others",
    }  # Jamba is of two
    assert style.architecture("a family of others") == "others"
    styles = model_lines.styles_of(gallery.alone())
    assert styles["Llama"]["color"] == style.HUES["Transformers"][0]
    assert {styles[name]["color"] for name in ("RWKV-5.2", "early RWKV-5.2", "RWKV-7")} == set(style.HUES["RWKVs"])
    assert len({str(s) for s in styles.values()}) == len(styles), "no two groups look the same"


def test_seeds_are_thin_and_their_mean_is_thick_with_a_band() -> None:
    rows = gallery.models("depth", lambda depth, steep: steep + depth)
    _, ((ax,),) = style.canvas()
    model_lines.lines(ax, rows, "depth", model_lines.styles_of(rows))
    thick = {line.get_label(): line for line in ax.lines if line.get_linewidth() > 1}
    assert list(thick) == ["Llama (2 seeds)", "Baichuan2-13B layout", "RWKV-5.2 (2 seeds)", "early RWKV-5.2", "RWKV-7"]
    assert len(ax.lines) - len(thick) == 4, "the seeds of two groups"
    llama = rows[rows["group"] == "Llama"]
    assert thick["Llama (2 seeds)"].get_ydata() == pytest.approx(llama.groupby("depth")["value"].mean().to_numpy())
    assert len(ax.collections) == len(thick), "a band for each"
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(llama.groupby("depth")["ci_low"].mean().min())
    assert band[:, 1].max() == pytest.approx(llama.groupby("depth")["ci_high"].mean().max())


def test_a_line_that_leaves_the_figure_is_marked_where_it_does() -> None:
    _, ((ax,),) = style.canvas()
    ax.plot([0, 1, 2], [0, 1, 3])
    ax.plot([0, 1, 2], [0, 1, 1.5])
    style.clip(ax, 2)
    assert ax.get_ylim()[1] == 2
    (mark,) = [line for line in ax.lines if line.get_marker() == "^"]
    assert mark.get_xdata() == [1.5]


@pytest.mark.parametrize(("n", "most", "ticks"), [(12, 16, [0, 1, 2]), (30, 16, [0, 2, 4]), (30, 6, [0, 5, 10]), (48, 5, [0, 10, 20])])
def test_ticks_stand_at_whole_blocks(n: int, most: int, ticks: list[int]) -> None:
    _, ((ax,),) = style.canvas()
    ax.set_xlim(0, n - 1)
    style.block_ticks(ax.xaxis, n, most)
    assert [tick for tick in ax.get_xticks() if tick >= 0][:3] == ticks


def test_the_axis_says_where_it_is_logarithmic_and_ends_with_the_data() -> None:
    _, ((ax,),) = style.canvas()
    ax.set_ylabel("loss")
    style.axis_scale(ax, "y", np.array([0.0, 0.01, 0.02, 0.03, 8.0]))
    assert ax.get_ylabel() == "loss\nlog scale beyond 0.01"
    assert -0.01 < ax.get_ylim()[0] < 0
    assert 8 < ax.get_ylim()[1] < 20
