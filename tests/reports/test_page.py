"""The HTML of a report as its reader uses it, in a browser without a network: it sorts, points, zooms, copies, explores, and reads
without its script as well."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from pypdf import PdfReader

from analysis.display import plots, show
from analysis.display.format import number
from analysis.removal.explored import Explored, Measured, Order, Reading
from analysis.stats.intervals import Interval
from reports.collect import collect
from reports.convert import convert
from reports.pieces import Chapter

HOSTILE = '</script><script>document.title = "broken"</script><b onclick="x()">&amp;'
RISES = [0.25, 0.004, 0.0312, 1.5]
SINGLES = {f"blocks {i}": 0.1 * (i + 1) for i in range(4)}
TOGETHER = {"blocks 0, 1": 0.5, "blocks 0, 2": 0.6, "blocks 1, 2": 0.4, "blocks 0, 1, 2": 0.9}  # errors of their sums: +.2 +.2 -.1 +.3
PATH = ("blocks 0", "blocks 0, 1", "blocks 0, 1, 2")


def explored(name: str) -> Explored:
    """Four blocks with two heads each, of which two were measured."""
    parts = SINGLES | {"heads 0.0": 0.04, "heads 0.1": 0.04}
    shares = dict.fromkeys(SINGLES, 0.25) | {f"{kind} {i}": 0.125 for kind in ("mixers", "ffns") for i in range(4)}
    shares |= {f"heads {i}.{h}": 0.02 for i in range(4) for h in range(2)}
    sets = [Measured(out, shares[out], Interval(v, v - 0.05, v + 0.05), out != "blocks 3") for out, v in parts.items()]
    sets += [Measured(out, 0.25 * (1 + out.count(",")), Interval(v, v - 0.05, v + 0.05)) for out, v in TOGETHER.items()]
    return Explored(name, shares, (Reading("texts, held-out: 12 documents", 12, tuple(sets), (Order("greedy", PATH),)),))


def sparse() -> Explored:
    """Two blocks with three experts each, read on two texts, of which the larger has every part alone; and sets that nobody can pick."""
    shares = {f"blocks {i}": 0.5 for i in range(2)} | {f"{kind} {i}": 0.25 for kind in ("mixers", "ffns") for i in range(2)}
    shares |= {f"experts {i}.{e}": 0.08 for i in range(2) for e in range(3)}
    larger = {"blocks 0": 0.2, "blocks 1": 0.3, "experts 0.1": 0.05, "experts 0.2": 0.06}
    smaller = {"blocks 0": 0.1, "blocks 1": 0.15, "blocks 0, 1": 0.4, "blocks 0; mixers 1": 0.1, "mixers 1": 0.005}
    smaller |= {"experts 0.1, 0.2": 0.2, "kv_groups 0.1": 1.0, "blocks 0 (mean)": 1.0}
    one, other = ([Measured(out, 0.5, Interval(v, v - 0.01, v + 0.01)) for out, v in of.items()] for of in (larger, smaller))
    orders = Order("experts", ("experts 0.1, 0.2", "kv_groups 0.1")), Order("means", ("blocks 0 (mean)",))
    return Explored("sparse", shares, (Reading("larger text", 24, tuple(one)), Reading("smaller text", 12, tuple(other), orders)))


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of one notebook, with a figure and a table of the same numbers, and two models to explore."""
    out = tmp_path_factory.mktemp("page")
    outputs: list[nbformat.NotebookNode] = []
    rows = pd.DataFrame({"kind": "blocks", "block": range(4), "metric": "delta_nll", "value": RISES})
    rows = rows.assign(ci_low=rows["value"] - 0.002, ci_high=rows["value"] + 0.002)
    wide = {f"a long column of number {i}": rows["value"] for i in range(8)}
    with pytest.MonkeyPatch.context() as patch:
        new = nbformat.v4.new_output
        patch.setattr(
            show, "display", lambda data, metadata=None, raw=False: raw and outputs.append(new("display_data", data, metadata=metadata))
        )
        show.setup(out / "runs", "depth", "a")
        show.figure(plots.depth_profile(rows, "delta_nll"), "The rise in loss without each block.", "rise")
        show.table(
            pd.DataFrame({"block": range(4), "rise in loss": RISES, "name": ["b", "a", HOSTILE, "c"], **wide}),
            "A caption that is longer than the screen of a telephone is wide, and of which every word is to be read there.",
            "blocks",
        )
        show.setup()
    cells = [nbformat.v4.new_markdown_cell("# First"), nbformat.v4.new_code_cell("x", outputs=outputs)]
    cells += [nbformat.v4.new_markdown_cell("\n\n".join(["# Second", *["Words."] * 60, "```\nstrata report a\n```"]))]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), out / "a.ipynb")
    collect([out / "a.ipynb"], out / "runs", out)
    return convert([Chapter([("", out / "a.ipynb")])], out, title="t", explored=[explored("a model"), explored(HOSTILE), sparse()])[1]


@pytest.fixture
def opened(chromium, page_file: Path):
    """Opens the report, and holds in the end that nothing was said on the console and nothing asked of a network."""
    said: list[str] = []
    contexts = []

    def open_(**options):
        context = chromium.new_context(**{"viewport": {"width": 1400, "height": 900}, "offline": True, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
        page.goto(page_file.as_uri())
        if options.get("java_script_enabled", True):
            page.locator(".explorer .mark").first.wait_for(state="attached")  # figures are drawn once their width is known
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []


def test_a_point_says_the_number_of_the_table(opened) -> None:
    page = opened()
    box = page.locator("figure .picture").first
    row = page.locator("figure.tabular tbody tr").nth(2)
    points = page.locator("figure img").first.evaluate("image => JSON.parse(image.dataset.points)")
    x, y, _ = points[2]
    size = box.bounding_box()
    box.hover(position={"x": x * size["width"], "y": y * size["height"]})
    tip = box.locator(".tip")
    assert tip.inner_text() == "blocks, block 2: 0.0312 (0.0292 to 0.0332)"
    dot, image = box.locator(".dot").bounding_box(), box.locator("img").bounding_box()
    assert image["width"] < 650, "narrower than the text"
    assert (dot["x"] + dot["width"] / 2 - image["x"]) / image["width"] == pytest.approx(x, abs=0.003)
    assert (dot["y"] + dot["height"] / 2 - image["y"]) / image["height"] == pytest.approx(y, abs=0.005)
    assert row.locator("td").first.inner_text() == number(RISES[2]) == "0.0312"
    box.press("ArrowRight")
    assert tip.inner_text().startswith("blocks, block 3: 1.50")


def test_tables_sort_by_what_their_cells_say(opened) -> None:
    page = opened()
    table = page.locator("figure.tabular table").first
    column = lambda i: table.locator(f"tbody tr > :nth-child({i})").all_inner_texts()  # noqa: E731
    table.locator("thead button").nth(1).click()
    assert column(2) == ["0.00400", "0.0312", "0.250", "1.50"]
    assert column(1) == ["1", "2", "0", "3"]
    assert table.locator("thead th").nth(1).get_attribute("aria-sort") == "ascending"
    table.locator("thead button").nth(1).click()
    assert column(2) == ["1.50", "0.250", "0.0312", "0.00400"]
    table.locator("thead button").nth(2).click()
    assert column(3) == [HOSTILE, "a", "b", "c"]
    assert table.locator("thead th").nth(1).get_attribute("aria-sort") is None
    assert table.locator("thead th[scope=col]").count() == 11


def test_files_are_inside_and_copies_are_what_is_shown(opened, page_file: Path) -> None:
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    svg, csv = page.get_by_role("link", name="SVG"), page.get_by_role("link", name="CSV")
    assert svg.get_attribute("download") == "depth--a--rise.svg"
    inside = {link: base64.b64decode(link.get_attribute("href").split(",")[1]) for link in (svg, csv)}
    assert inside[svg] == (page_file.parent / "figures/depth--a--rise.svg").read_bytes()
    assert inside[csv] == (page_file.parent / "tables/depth--a--blocks.csv").read_bytes()
    page.locator("figure.tabular button.file").first.click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").splitlines()[1].startswith("0\t0.250\tb\t0.250")
    page.locator("pre").scroll_into_view_if_needed()
    page.locator(".bar:has(+ pre) button").click()
    page.locator(".bar:has(+ pre)").get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").strip() == "strata report a"


def test_a_figure_enlarges(opened) -> None:
    page = opened(viewport={"width": 400, "height": 800})
    page.get_by_role("button", name="Zoom").first.click()
    large = page.locator("dialog img")
    before = large.bounding_box()["width"]
    assert before > 1.5 * page.locator("figure img").first.bounding_box()["width"]
    page.get_by_role("button", name="Larger").click()
    assert large.bounding_box()["width"] > 1.4 * before
    page.locator("dialog .picture").press("ArrowRight")
    assert "block 0: 0.250" in page.locator("dialog .tip").inner_text()
    page.get_by_role("button", name="Close").click()
    page.locator("dialog").wait_for(state="detached")


def test_contents_say_where_the_reader_is(opened) -> None:
    page = opened()
    current = page.locator("nav a[aria-current]")
    for title in ("Second", "First"):
        page.get_by_role("heading", name=title).scroll_into_view_if_needed()
        page.evaluate("title => [...document.querySelectorAll('h1')].find((h) => h.textContent.includes(title)).scrollIntoView()", title)
        page.wait_for_function("title => document.querySelector('nav a[aria-current]')?.textContent.includes(title)", arg=title)
        assert title in current.inner_text()
        assert current.count() == 1


def test_a_pick_changes_the_answer_and_the_figures(opened) -> None:
    """What was measured first; a sum of what was not only beside the errors of such sums, worked out by hand above."""
    page = opened()
    one = page.locator(".explorer").first
    answer, typed = one.locator(".answer"), one.get_by_role("textbox")
    assert typed.input_value() == "blocks 0, 1", "the second set of the first order"
    assert "Measured: a rise in loss of 0.500 (0.450 to 0.550) nats per token, with 50 %" in answer.inner_text()
    assert "The sum of its single removals is 0.300; what was measured is 0.200 higher" in answer.inner_text()
    mark = one.locator("svg .mark").first
    assert mark.get_attribute("class") == "mark measured"
    before = mark.locator("circle").get_attribute("cy")
    one.locator("[data-part='blocks 1']").click()
    assert typed.input_value() == "blocks 0"
    assert "0.100 (0.0500 to 0.150)" in answer.inner_text()
    assert "sum" not in answer.inner_text()
    assert mark.locator("circle").get_attribute("cy") != before
    one.locator("[data-part='blocks 3']").click()
    assert typed.input_value() == "blocks 0, 3"
    said = answer.inner_text()
    assert said.startswith("Not measured together (about 50 % of the block parameters). Measured sets that share most with it: ")
    assert said.index("Not measured") < said.index(
        "The sum of its single removals is 0.500, which is no measurement: single removals do not add up."
    )
    assert "On the 4 measured sets that save half to twice as much" in said
    assert "by −0.100 to +0.300 (median +0.200)" in said
    assert mark.get_attribute("class") == "mark summed"
    assert one.locator(".tested.alike").count() == 4
    answer.locator("button.set").first.click()
    assert "Measured:" in answer.inner_text()


def test_sets_of_parts_are_those_of_strata(opened) -> None:
    """Equal interventions are one set, and no sum is made up where parts or errors are unknown."""
    page = opened()
    one = page.locator(".explorer").first
    answer, typed = one.locator(".answer"), one.get_by_role("textbox")

    def write(text: str) -> str:
        typed.fill(text)
        typed.press("Enter")
        return typed.input_value()

    assert write("mixer 1; ffn 1; heads 1.0, 1.1; block 0") == "blocks 0, 1"
    assert "Measured: a rise in loss of 0.500" in answer.inner_text()
    assert write("heads 0.1, 0.0") == "heads 0.0, 0.1"
    assert "too few sets that save about as much were measured" in answer.inner_text()
    assert "is 0.0" not in answer.inner_text()
    assert write("heads 0.0, 3.1") == "heads 0.0, 3.1"
    assert "There is no sum of single removals: not all of its parts were measured alone." in answer.inner_text()
    one.locator("[data-part='mixers 0']").click()
    assert typed.input_value() == "mixers 0; heads 3.1", "a head goes with its mixer"
    for wrong, why in (("blocks 9", "the model has no block 9"), ("layers 1", "“layers 1” is no set of parts")):
        write(wrong)
        assert why in answer.inner_text()
        assert typed.get_attribute("aria-invalid") == "true"
    one.get_by_role("button", name="Nothing").click()
    assert answer.inner_text() == "Nothing is picked: the unpruned model."
    assert one.locator("svg .mark").count() == 0


def test_a_slider_goes_along_a_removal_order(opened) -> None:
    page = opened()
    one = page.locator(".explorer").first
    slider = one.get_by_role("slider", name="greedy")
    slider.press("End")
    assert one.get_by_role("textbox").input_value() == PATH[2]
    assert "saves 75 %: 0.900 (0.850 to 0.950)" in one.locator(".orders output").inner_text()
    slider.press("Home")
    assert "unpruned" in one.locator(".answer").inner_text()
    slider.press("ArrowRight")
    assert one.locator("[data-part='blocks 0']").get_attribute("class") == "cell picked"
    assert one.locator("[data-part='heads 0.1']").get_attribute("class") == "cell implied"


def test_the_map_says_what_each_part_costs(opened) -> None:
    page = opened()
    box = page.locator(".explorer").first.locator(".picture").first
    box.locator("[data-part='blocks 3']").hover()
    assert box.locator(".tip").inner_text() == "without blocks 3: 0.400 (0.350 to 0.450), not significant"
    box.locator("[data-part='heads 2.1']").hover()
    assert box.locator(".tip").inner_text() == "without heads 2.1: not measured alone"
    box.press("ArrowRight")
    box.press("Enter")
    assert "heads 3.1" in page.locator(".explorer").first.get_by_role("textbox").input_value()


def test_no_name_acts(opened) -> None:
    page = opened()
    assert page.title() == "t"
    assert page.locator("script").count() == 4  # three models, and the page's own
    assert page.locator("b").count() == 0
    assert page.get_by_role("heading", name=HOSTILE).count() == 1
    assert page.locator(".explorer").nth(1).get_by_role("textbox").get_attribute("aria-label") == f"Parts of {HOSTILE} to leave out"


def write(one, text: str) -> str:
    """Types a set of parts; what is answered."""
    one.get_by_role("textbox").fill(text)
    one.get_by_role("textbox").press("Enter")
    return one.locator(".answer").inner_text()


def test_experts_are_picked_and_what_cannot_be_picked_is_in_the_tables(opened) -> None:
    page = opened()
    one = page.locator(".explorer").nth(2)
    typed = one.get_by_role("textbox")
    assert typed.input_value() == "experts 0.1, 0.2", "the only set of the only order that can be shown"
    assert one.get_by_role("slider").count() == 1
    assert "Measured: a rise in loss of 0.200" in one.locator(".answer").inner_text()
    one.locator("[data-part='experts 1.2']").click()
    assert typed.input_value() == "experts 0.1, 0.2, 1.2"
    one.locator("[data-part='ffns 0']").click()
    assert typed.input_value() == "ffns 0; experts 1.2", "an expert goes with its ffn"
    one.locator("[data-part='mixers 0']").click()
    assert typed.input_value() == "blocks 0; experts 1.2"
    assert one.locator("svg text", has_text="expert 2").count() == 1
    assert one.locator("tbody th", has_text="kv_groups 0.1").count() == one.locator("tbody th", has_text="blocks 0 (mean)").count() == 1


def test_sums_are_of_the_text_of_the_set(opened) -> None:
    """0.1 and 0.15 on the smaller text, though the larger has both blocks, too; of the experts alone only the larger has any."""
    one = opened().locator(".explorer").nth(2)
    assert "The sum of its single removals is 0.250; what was measured is 0.150 higher: single" in write(one, "blocks 0, 1")
    assert "is 0.105; what was measured is 0.00500 lower, and its interval holds the sum." in write(one, "blocks 0; mixers 1")
    said = write(one, "experts 0.1, 0.2")
    assert "is 0.110 on “larger text”; what was measured is 0.0900 higher, but on “smaller text”" in said
    assert "does not say whether single removals add up" in said
    assert one.locator(".tested").count() == 3
    assert one.locator(".tested.other").count() == 1


def test_an_explorer_that_fails_stops_no_other(chromium, page_file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(page_file.read_text().replace('"readings":[', '"readings":null,"was":[', 1))
    page = chromium.new_page()
    page.goto(broken.as_uri())
    page.locator(".explorer .mark").first.wait_for(state="attached")
    assert [one.locator(".live").count() for one in page.locator(".explorer").all()] == [0, 1, 1]
    first = page.locator(".explorer").first
    assert "all of them are in the tables below" in first.inner_text()
    first.locator("summary").click()
    assert first.get_by_role("rowheader", name="blocks 0, 1, 2").is_visible()
    page.close()


def test_tables_of_the_explorer_are_files(opened) -> None:
    """With all digits, and safe in a spreadsheet."""
    page = opened()
    page.locator(".explorer summary").first.click()
    with page.expect_download() as download:
        page.locator(".explorer").first.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "explorer--a-model-97ff8a35--1.csv"
    rows = pd.read_csv(download.value.path())
    assert rows["without"].tolist() == [*SINGLES, "heads 0.0", "heads 0.1", *TOGETHER]
    assert rows.loc[4, ["rise in loss", "ci_low", "ci_high"]].tolist() == pytest.approx([0.04, -0.01, 0.09])
    assert rows["order"].dropna().tolist() == ["greedy"] * 3


def test_contents_fold_out_of_a_bar_where_there_is_no_room_beside_the_text(opened) -> None:
    page = opened(viewport={"width": 400, "height": 800})
    bar, here = page.locator("nav summary"), page.locator("nav .here")
    page.evaluate("[...document.querySelectorAll('h1')].find((h) => h.textContent.includes('Second')).scrollIntoView()")
    page.wait_for_function("() => document.querySelector('nav .here').textContent.includes('Second')")
    assert page.locator("nav").bounding_box()["y"] == pytest.approx(0, abs=1), "it stays where the reader is"
    heading = page.get_by_role("heading", name="Second").bounding_box()
    assert heading["y"] >= bar.bounding_box()["height"], "and covers no heading"
    link = page.get_by_role("link", name="First")
    assert not link.is_visible()
    bar.click()
    link.click()
    page.wait_for_function("() => document.querySelector('nav .here').textContent.includes('First')")
    assert not link.is_visible()
    assert here.inner_text().endswith("First")
    bar.click()
    page.keyboard.press("Escape")
    assert not link.is_visible()
    page.set_viewport_size({"width": 1400, "height": 900})
    link.wait_for(state="visible")


def test_contents_stand_open_without_script(opened) -> None:
    page = opened(viewport={"width": 400, "height": 800}, java_script_enabled=False)
    assert page.get_by_role("link", name="Second").is_visible()
    page.locator("nav summary").click()
    assert not page.get_by_role("link", name="Second").is_visible()


def luminance(page, name: str, of: str = "color") -> float:
    """Of a colour of the first element, 0 to 1."""
    colour = page.locator(name).first.evaluate("(element, of) => getComputedStyle(element)[of]", of)
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_are_read_by_day_and_at_night(opened, scheme: str) -> None:
    page = opened(color_scheme=scheme)
    paper = luminance(page, "body", "backgroundColor")
    assert paper < 0.1 if scheme == "dark" else paper > 0.9
    for name in ("p", "h1", "td", ".note", "nav a"):
        assert abs(luminance(page, name) - paper) > 0.3, name
    assert abs(luminance(page, ".explorer svg text", "fill") - paper) > 0.3
    inverted = page.locator("figure img").first.evaluate("image => getComputedStyle(image).filter")
    assert inverted.startswith("invert") == (scheme == "dark")


def test_rows_have_headers(opened) -> None:
    """For those who hear a table: one a row, in tables of notebooks and of the explorer."""
    page = opened()
    assert page.locator("tbody th[scope=row]").count() == page.locator("tbody tr").count() > len(SINGLES)


def test_the_policy_runs_no_other_script(chromium, page_file: Path) -> None:
    page = chromium.new_page()
    page.goto(page_file.as_uri())
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = true'}))")
    assert page.evaluate("window.ran") is None
    page.close()


@pytest.mark.parametrize("script", [True, False])
def test_nothing_is_cut_off_on_a_telephone(opened, script: bool) -> None:
    page = opened(viewport={"width": 400, "height": 800}, java_script_enabled=script)
    for details in page.locator("summary").all():
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    for name in ("figcaption", "h1", "h2", "p", "nav", "img", ".live"):
        for box in [element.bounding_box() for element in page.locator(name).all()]:
            assert box is None or (box["x"] >= 0 and box["x"] + box["width"] <= 400), name


def test_everything_is_readable_without_script(opened) -> None:
    page = opened(java_script_enabled=False)
    text = page.locator("body").inner_text()
    for said in ("The rise in loss without each block.", "0.0312", "Picking needs JavaScript", "All 10 measured sets of parts as tables"):
        assert said in text
    assert page.locator("button").count() == page.locator(".live").count() == 0
    assert "Blocks: 4 values, from 0.00400 (block 1) to 1.50 (block 3)." in page.locator("figure img").first.get_attribute("alt")
    page.locator(".explorer summary").first.click()
    assert page.locator(".explorer").first.get_by_role("row", name="blocks 0, 1, 2 75 % 0.900 0.850 to 0.950 greedy").is_visible()


def test_paper_has_no_buttons(opened) -> None:
    page = opened()
    page.emulate_media(media="print")
    assert not [one for one in page.locator(".file, .pick, .orders input, .hint, .bar, nav .here").all() if one.is_visible()]
    assert page.locator("figcaption").first.is_visible()
    assert page.locator(".explorer").first.get_by_text("Without blocks 0, 1.").is_visible()


@pytest.mark.parametrize("script", [True, False])
def test_everything_is_on_paper(opened, script: bool, tmp_path: Path) -> None:
    """What is folded away, too; afterwards it is folded again."""
    page = opened(viewport={"width": 400, "height": 800}, java_script_enabled=script)
    page.pdf(path=tmp_path / "page.pdf")
    text = " ".join("".join(sheet.extract_text() for sheet in PdfReader(tmp_path / "page.pdf").pages).split())
    for said in ("0.850 to 0.950", "kv_groups 0.1", "The rise in loss without each block.", "Second"):
        assert said in text
    assert page.locator("details[open]").count() == (0 if script else 1)
