"""A real report, of a dense and of a sparse model, opened in a browser: everything that its explorers were given can be picked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.reference.command_line import Strata
from tests.reports.conftest import save_tiny

SECTIONS = ("redundancy", "width", "depth_vs_width")


@pytest.fixture
def report(tiny_folder: Path, prose: Path, strata: Strata, tmp_path: Path) -> Path:
    models = [tiny_folder, save_tiny(tmp_path / "tiny-mixtral", prose, "mixtral", num_local_experts=5)]
    read = ["--corpus", prose, "--documents", 12, "--window", 24, "--device", "cpu"]
    done = strata("report", *models, "--only", ",".join(SECTIONS), *read, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    return tmp_path / "out" / "report.html"


@pytest.mark.long
def test_a_report_in_a_browser(chromium, report: Path) -> None:
    said: list[str] = []
    page = chromium.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri())
    explorers = page.locator(".explorer").all()
    assert len(explorers) == page.locator(".live").count() == 2
    for one in explorers:
        data = json.loads(one.locator("script").text_content())
        typed, answer = one.get_by_role("textbox"), one.locator(".answer")
        sets = {out for reading in data["readings"] for out, *_ in reading["sets"]}
        assert {out.split()[0] for out in sets} >= {"blocks", "mixers", "ffns", "heads"}
        for out in sorted(sets):
            typed.fill(out)
            typed.press("Enter")
            assert (typed.input_value(), typed.get_attribute("aria-invalid")) == (out, None)
            assert "Measured: a rise in loss of" in answer.inner_text()
        before = answer.inner_text()
        one.locator("[data-part='blocks 1']").click()
        assert answer.inner_text() != before
    assert any(out.startswith("experts") and ", " in out for out in sets), "of the second model"
    assert page.locator("[data-part='experts 2.4']").count() == 1
    front = page.locator("section.front")
    assert front.get_by_role("link", name="SVG").get_attribute("download") == "answers.svg"
    assert front.get_by_role("link", name="CSV").get_attribute("download") == "answers.csv"
    assert (report.parent / "figures/answers.svg").is_file()
    assert (report.parent / "tables/answers.csv").read_text().count("\n") == 3
    page.close()
    assert said == []
