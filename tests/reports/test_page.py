"""The HTML of a report as its reader uses it, in a browser without a network: it sorts, points, zooms, copies, explores, and reads
without its script as well."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pandas as pd
import pytest

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
    return convert([Chapter([("", out / "a.ipynb")])], out, title="t", explored=[explored("a model"), explored(HOSTILE)])[1]


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not (path and find_spec("playwright")) and not os.environ.get("CI"):
        pytest.skip("needs playwright and Chromium (on Debian and Ubuntu: apt install chromium)")
    from playwright.sync_api import sync_playwright

    assert path, "Chromium is missing, which .ci/run installs"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] * (os.geteuid() == 0))
        yield browser
        browser.close()


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
    assert page.locator("script").count() == 3  # two models, and the page's own
    assert page.locator("b").count() == 0
    assert page.get_by_role("heading", name=HOSTILE).count() == 1
    assert page.locator(".explorer").nth(1).get_by_role("textbox").get_attribute("aria-label") == f"Parts of {HOSTILE} to leave out"


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
    page.locator("summary").first.click()
    assert page.locator(".explorer").first.get_by_role("row", name="blocks 0, 1, 2 75 % 0.900 0.850 to 0.950 greedy").is_visible()


def test_paper_has_no_buttons(opened) -> None:
    page = opened()
    page.emulate_media(media="print")
    assert not [one for one in page.locator("button.file, .pick button, .bar").all() if one.is_visible()]
    assert page.locator("figcaption").first.is_visible()
