"""Parameters of notebooks: wrong ones are errors, whoever executes the notebook."""

from dataclasses import replace
from pathlib import Path

import pytest

from adapters import StrataError
from analysis.parameters import ComparisonParameters, Parameters, RankingParameters, progress_on_stderr
from analysis.runs.budgets import BUDGETS
from tests.reference.hf import tiny


def test_a_kernels_own_names_do_not_count() -> None:
    names = {"model": "smollm2", "In": [], "_i": "x = 1", "exit": print, "__name__": "__main__", "documents": None}
    assert Parameters.of(names).model == "smollm2"


def test_cells_can_be_run_again_in_a_notebook_at_work() -> None:
    """What was made since then is no parameter; a parameter that was changed is read again."""
    first = Parameters.of({"model": "smollm2"})
    again = Parameters.of({"model": "smollm2", "seed": 3, "title": "a scratch string", "parameters": first})
    assert again.seed == 3


def test_other_corpora_are_a_list_with_commas() -> None:
    assert RankingParameters(model="smollm2").others == []
    assert RankingParameters(model="smollm2", other_corpora="a.txt, emozilla/pg19").others == ["a.txt", "emozilla/pg19"]


def test_how_weights_are_held_reaches_the_model(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    for weights, is_streamed in (("auto", False), ("resident", False), ("streamed", True)):
        one = Parameters.of({"model": str(tmp_path), "device": "cpu", "weights": weights}).load()
        each = ComparisonParameters.of({"models": [str(tmp_path)], "device": "cpu", "weights": weights}).load(str(tmp_path))
        assert [model.reader is not None for model in (one, each)] == [is_streamed, is_streamed]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"modle": "smollm2"}, "model"),
        ({"model": "smollm2", "tokens": 3}, "documents"),
        ({"model": "smollm2", "documents": 0}, "greater than or equal to 1"),
        ({"model": "smollm2", "seed": "one"}, "integer"),
    ],
)
def test_bad_parameters_name_the_valid_ones(names: dict[str, object], says: str) -> None:
    with pytest.raises(StrataError, match=says):
        Parameters.of(names)


def test_an_unknown_budget_names_the_valid_ones() -> None:
    with pytest.raises(StrataError, match="quick"):
        _ = Parameters(model="smollm2", budget="quik").sizes


def test_a_window_replaces_the_budgets() -> None:
    assert Parameters.of({"model": "m", "budget": "full"}).sizes == BUDGETS["full"]
    assert Parameters.of({"model": "m", "budget": "full", "window": 64}).sizes == replace(BUDGETS["full"], window=64)


def test_progress_is_one_line_that_is_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    tell = progress_on_stderr()
    tell("a sweep of many", 0.0)
    tell("a sweep of many", 1.0)
    tell("paths", 1.0)
    said = capsys.readouterr().err
    assert "\n" not in said
    *_, last = said.split("\r")
    assert last.rstrip() == "paths 100%"
    assert len(last) >= len("a sweep of many 100%"), "nothing of the longer line stays"
