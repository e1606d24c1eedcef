"""What a report is asked for: wrong before anything is loaded or written, and in words that ask for the same again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.errors import StrataError
from reports import request
from reports.cli import main as cli
from reports.request import ReportRequest

OPTIONS = {"seed": 0, "device": "cpu", "dtype": "float32"}


def of(
    prose: Path, models: Sequence[str] = (), compared: Sequence[str] = (), only: Sequence[str] = (), **options: str | int
) -> ReportRequest:
    return ReportRequest.of(models, compared, "quick", Path("out"), only, {"corpus": str(prose), **OPTIONS, **options})


def test_the_zoo_is_all_of_it_or_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "zoo", lambda: {"zoo-a": tmp_path, "zoo-b": tmp_path})
    assert request.everything(["x", "zoo", "y"]) == ["x", "zoo-a", "zoo-b", "y"]
    monkeypatch.setattr(request, "zoo", dict)
    with pytest.raises(StrataError, match="holds no models: train them"):
        request.everything(["zoo"])


def test_several_models_are_compared_unless_sections_are_named(tiny_folder: Path, prose: Path) -> None:
    one, other = str(tiny_folder), str(tiny_folder.with_name("asked-twin"))
    Path(other).symlink_to(tiny_folder)
    assert of(prose, [one]).compared == []
    assert of(prose, [one, other]).compared == [one, other]
    assert of(prose, [one, other], only=["depth"]).compared == []
    assert of(prose, [one], [one, other]).compared == [one, other]
    assert of(prose, [one, other]).title == "Redundancy of tiny-llama and asked-twin"
    assert of(prose, (), [one, other]).title == "tiny-llama and asked-twin compared"


@pytest.mark.parametrize(("count", "says"), [(1, "cannot be compared"), (2, "named twice")])
def test_models_that_cannot_be_compared(count: int, says: str, tiny_folder: Path, prose: Path) -> None:
    with pytest.raises(StrataError, match=says):
        of(prose, (), [str(tiny_folder)] * count)


def test_how_weights_are_held_is_no_part_of_what_a_report_is(tiny_folder: Path, prose: Path) -> None:
    here, there = of(prose, [str(tiny_folder)]), of(prose, [str(tiny_folder)], weights="streamed")
    assert here.identity == there.identity
    assert there.command == f"{here.command} --weights streamed"
    assert there.parameters["weights"] == "streamed"
    assert (here.load(str(tiny_folder)).reader, there.load(str(tiny_folder)).reader is None) == (None, False)


def test_a_section_that_is_none(tiny_folder: Path, prose: Path) -> None:
    with pytest.raises(StrataError, match=r"unknown section 'wdth'.*width"):
        of(prose, [str(tiny_folder)], only=["wdth"])


@pytest.mark.parametrize("command", ["report", "compare"])
def test_the_command_asks_for_the_same_again(
    command: str, tiny_folder: Path, prose: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a report prints as its command comes to the same `ReportRequest` by the command line."""
    twin = tmp_path / "a twin"
    twin.symlink_to(tiny_folder)
    models = [str(tiny_folder), str(twin)]
    first = of(prose, *((models, (), ["depth", "width"]) if command == "report" else ((), models)), documents=3)
    seen: list[ReportRequest] = []
    monkeypatch.setattr("reports.report.make", lambda request: seen.append(request) or ())
    monkeypatch.setattr("sys.argv", shlex.split(first.command))
    with pytest.raises(SystemExit):
        cli.main()
    assert [again.identity for again in seen] == [first.identity]
    assert "Compared" not in first.facts(first.exactly(["depth=3x128"]))
