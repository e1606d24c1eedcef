"""What a report is asked for: wrong before anything is loaded or written, and in words that ask for the same again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.errors import StrataError
from analysis.tasks.code_eval import CODE_EVAL
from reports import request
from reports.cli import main as cli
from reports.expected import chosen, expect
from reports.report import _notes
from reports.request import ReportRequest
from tests.analysis.tasks import written_files
from tests.analysis.tasks.makers import table_1

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


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | int]:
    """Options of two benchmarks: of answers that are scored, and of such as a model writes."""
    folder = tmp_path_factory.mktemp("tasks")
    table_1(folder, 3)
    written_files.write(folder)
    return {"tasks": "piqa,gsm8k", "limit": 2, "data": str(folder)}


def test_a_section_has_the_benchmarks_that_it_shows(tiny_folder: Path, prose: Path, tasks: dict[str, str | int]) -> None:
    """A text of the tiny model has 256 tokens, as many as gsm8k has written."""
    sections = ["depth", "generation", "importance"]
    for most, ended in (({"max_tokens": 6}, "piqa,gsm8k"), ({}, "piqa")):
        asked = of(prose, [str(tiny_folder)], only=sections, documents=3, window=32, **tasks, **most)
        found = {choice.question: choice for choice in chosen(asked)}
        given = {question: asked.parameters_for(choice) for question, choice in found.items()}
        assert {q: values.get("tasks") for q, values in given.items()} == {"depth": "piqa", "generation": ended, "importance": None}
        assert ("max_tokens" in given["generation"], "max_tokens" in given["depth"]) == (bool(most), False)
        assert {q: [*choice.missed] for q, choice in found.items()} == {q: ["gsm8k"] * (q == "generation" and not most) for q in sections}


def test_a_benchmark_that_a_model_cannot_do_is_named(
    tiny_folder: Path, prose: Path, tasks: dict[str, str | int], capsys: pytest.CaptureFixture
) -> None:
    asked = of(prose, [str(tiny_folder)], only=["generation"], documents=3, window=32, **tasks)
    why = "the task asks for 256 new tokens, and tiny-llama reads 256 with its prompt: ask for fewer"
    expect(asked)
    assert f"generation: without gsm8k ({why}" in capsys.readouterr().out
    assert _notes(chosen(asked), asked).startswith("*Without gsm8k: the task asks for 256 new tokens")


def test_written_answers_that_no_section_shows(tiny_folder: Path, prose: Path, tasks: dict[str, str | int]) -> None:
    with pytest.raises(StrataError, match="the answers of gsm8k are written, which only the section generation shows"):
        of(prose, [str(tiny_folder)], only=["depth"], **tasks)


def assert_asked_again(first: ReportRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that a report prints comes to the same request by the command line."""
    seen: list[ReportRequest] = []
    monkeypatch.setattr("reports.report.make", lambda request: seen.append(request) or ())
    monkeypatch.setattr("sys.argv", shlex.split(first.command))
    with pytest.raises(SystemExit):
        cli.main()
    assert [again.identity for again in seen] == [first.identity]


def test_programs_are_run_where_that_is_said(
    tiny_folder: Path, prose: Path, tasks: dict[str, str | int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CODE_EVAL, "allow", lambda: None)
    with pytest.raises(StrataError, match="allow it with `run_code`"):
        of(prose, [str(tiny_folder)], **(tasks | {"tasks": "humaneval"}))
    first = of(prose, [str(tiny_folder)], **(tasks | {"tasks": "humaneval", "run_code": True, "max_tokens": 6}))
    assert "--run-code --max-tokens 6" in first.command
    assert_asked_again(first, monkeypatch)


@pytest.mark.parametrize("command", ["report", "compare"])
def test_the_command_asks_for_the_same_again(
    command: str, tiny_folder: Path, prose: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a report prints as its command comes to the same `ReportRequest` by the command line."""
    twin = tmp_path / "a twin"
    twin.symlink_to(tiny_folder)
    models = [str(tiny_folder), str(twin)]
    first = of(prose, *((models, (), ["depth", "width"]) if command == "report" else ((), models)), documents=3)
    assert_asked_again(first, monkeypatch)
    assert "Compared" not in first.facts(first.exactly(["depth=3x128"]))
