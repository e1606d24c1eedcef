"""The explorer as HTML: all numbers as tables, and as data that no name breaks out of."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from reports.explorer import explorer, section
from tests.analysis.removal.test_explored import EXPLORED, READING

NAMES = ("</script><script>alert(1)</script>", "<!--<script>", "]]>", "a\u2028b&amp;\x00\x1b[0m", '"\\', "层")


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.data = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.data += data if self.tags[-1] == "script" else ""


@pytest.mark.parametrize("name", NAMES)
def test_no_name_ends_the_data(name: str) -> None:
    """Of a model, a text or an order; what the script reads is what was measured."""
    order = replace(READING.orders[0], title=name)
    page = section(replace(EXPLORED, model=name, readings=(replace(READING, text=name, orders=(order,)),)))
    (plain,) = (section(EXPLORED),)
    found = Tags(page)
    assert found.tags == Tags(plain).tags
    data = json.loads(found.data)
    assert data["model"] == data["readings"][0]["text"] == data["readings"][0]["orders"][0][0]
    assert data["readings"][0]["sets"][0] == ["blocks 0", 0.5, 0.1, 0.05, 0.15, None, "0.100 (0.0500 to 0.150)"]
    assert not re.search(r"[<>&]", found.data)


def test_everything_stands_in_a_table() -> None:
    page = section(replace(EXPLORED, readings=(READING, replace(READING, text="other"))))
    assert "All 2 measured sets" in page
    assert page.count('<th scope="row">blocks 0, 1</th><td>100 %</td><td>0.400</td><td></td><td></td><td>greedy</td>') == 2
    assert "<td>0.100</td><td>0.0500 to 0.150</td>" in page


def test_nothing_where_nothing_was_measured() -> None:
    assert explorer([]) == explorer([replace(EXPLORED, readings=())]) == []
    assert [piece.markdown.split("\n")[0] for piece in explorer([replace(EXPLORED, model="*a*")])] == ["# Explorer", r"## \*a\*"]
