"""The documentation's pages: links between them, and the site that is made of them."""

from __future__ import annotations

import re
import tomllib
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

import pytest

from reports import site

ROOT = Path(__file__).parents[2]
PAGES = [path for pattern in site.COLLECTED for path in ROOT.glob(pattern) if path.suffix == ".md"]
MADE = {ROOT / "docs" / name for name in ("reference.md", "interfaces.md", *(chapter.page for chapter in site.TUTORIAL))}  # by the site
OPTIONAL = {ROOT / name for name in site.OPTIONAL}


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists() or target in MADE, link
            assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_navigation() -> None:
    named = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    for page in sorted({*PAGES, *MADE, *OPTIONAL} - {ROOT / "README.md"}):
        assert f'"{page.relative_to(ROOT)}"' in named, page


@pytest.mark.parametrize("there", [(), site.OPTIONAL[:1], site.OPTIONAL])
def test_pages_that_are_not_written_yet_are_left_out(there: tuple[str, ...], tmp_path: Path) -> None:
    for name in there:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("# Written\n")
    settings = site.settings(tmp_path)
    assert [name for name in site.OPTIONAL if name in str(tomllib.loads(settings)["project"]["nav"])] == [*there]
    assert settings.count(".md") == (ROOT / "zensical.toml").read_text(encoding="utf-8").count(".md") - len(site.OPTIONAL) + len(there)


def test_reference_has_every_name() -> None:
    import strata

    assert [line.rpartition(".")[2] for line in site.reference().splitlines() if line.startswith(":::")] == strata.__all__


def test_interfaces_are_there_and_say_what_they_are() -> None:
    names = [line.removeprefix("::: ") for line in site.interfaces().splitlines() if line.startswith(":::")]
    assert len(names) > 20
    for module, _, name in (name.rpartition(".") for name in names):
        found = getattr(import_module(module), name)
        assert (found.__module__, found.__name__) == (module, name)
        assert found.__doc__


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


def run_cells(page: str) -> None:
    names: dict[str, object] = {"__name__": "page"}
    for cell in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(cell, names)


@pytest.mark.long
def test_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made without a warning, holds the tutorial with its figures, whose code runs, and needs nothing from elsewhere."""
    pytest.importorskip("zensical", reason="zensical is not installed: pip install 'llm-strata[docs]'")
    first = site.make(tmp_path)
    tutorial = (first.parent / "docs" / "tutorial.html").read_text(encoding="utf-8")
    assert "zoo-llama-0 can lose" in tutorial
    for chapter in site.TUTORIAL:
        page = (tmp_path / "pages" / "docs" / chapter.page).read_text(encoding="utf-8")
        seen = re.findall(r"!\[(.*)\]\(", page)
        assert len(seen) >= 3
        assert all("values, from" in alt for alt in seen), seen
    monkeypatch.chdir(tmp_path)  # where its runs are
    run_cells((tmp_path / "pages" / "docs" / "tutorial.md").read_text(encoding="utf-8"))
    assert "removal_order" in (first.parent / "docs" / "reference.html").read_text(encoding="utf-8")
    for page in first.parent.rglob("*.html"):
        links = Links()
        links.feed(page.read_text(encoding="utf-8"))
        for link in links.found:
            path = unquote(link.partition("#")[0])
            if path and not re.match(r"[a-z]+:", path) and page.name != "404.html":
                assert (page.parent / path).exists(), (page.name, link)
        assert not [link for link in links.found if re.match(r"https?:.*\.(js|css|woff2?)$", link)], page
