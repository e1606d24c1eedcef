"""The documentation's pages: links between them, and the site that is made of them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from reports import site

ROOT = Path(__file__).parents[2]
PAGES = [path for pattern in site.COLLECTED for path in ROOT.glob(pattern) if path.suffix == ".md"]
MADE = {ROOT / "docs" / "tutorial.md", ROOT / "docs" / "reference.md"}  # by the site


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
    for page in sorted({*PAGES, *MADE} - {ROOT / "README.md"}):
        assert f'"{page.relative_to(ROOT)}"' in named, page


def test_reference_has_every_name() -> None:
    import strata

    assert [line.rpartition(".")[2] for line in site.reference().splitlines() if line.startswith(":::")] == strata.__all__


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


@pytest.mark.long
def test_site(tmp_path: Path) -> None:
    """It is made without a warning, holds the tutorial with its figures, and needs nothing from elsewhere."""
    pytest.importorskip("zensical", reason="zensical is not installed: pip install 'llm-strata[docs]'")
    first = site.make(tmp_path)
    tutorial = (first.parent / "docs" / "tutorial.html").read_text(encoding="utf-8")
    assert tutorial.count("<img ") >= 3
    assert "zoo-llama-0 can lose" in tutorial
    assert "removal_order" in (first.parent / "docs" / "reference.html").read_text(encoding="utf-8")
    for page in first.parent.rglob("*.html"):
        links = Links()
        links.feed(page.read_text(encoding="utf-8"))
        for link in links.found:
            path = unquote(link.partition("#")[0])
            if path and not re.match(r"[a-z]+:", path) and page.name != "404.html":
                assert (page.parent / path).exists(), (page.name, link)
        assert not [link for link in links.found if re.match(r"https?:.*\.(js|css|woff2?)$", link)], page
