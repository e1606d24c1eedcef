"""The first page is made from what notebooks hand over, and says of pure noise that nothing is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from analysis.comparison.verdicts import Contrast
from analysis.display import show
from reports.first_page import Found, between_architectures, front, table
from tests.analysis.redundancy.test_sentences import NOISE, PLANTED, around
from tests.analysis.removal.test_explored import EXPLORED

OTHER = replace(PLANTED, model="b", architecture="RWKV", effective=around(10.4))
CONTRAST = Contrast(("Llama", "RWKV-5.2"), ("Transformer", "RWKV"), ((2.7,), (10.4,)), (12, 12), True, False, "2.70 against 10.4.")


def handed_over(path: Path, *things: object) -> Path:
    """A notebook whose code ran `show.found`."""
    outputs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            show, "display", lambda data, metadata, raw: outputs.append(nbformat.v4.new_output("display_data", data, metadata=metadata))
        )
        show.found(*things)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)]), path)
    return path


def test_numbers_come_back_as_they_went(tmp_path: Path) -> None:
    paths = [handed_over(tmp_path / "a.ipynb", PLANTED, EXPLORED), handed_over(tmp_path / "b.ipynb", NOISE, CONTRAST, EXPLORED)]
    assert Found.of(paths) == Found([PLANTED, NOISE], [CONTRAST], (EXPLORED,))


def test_what_nobody_handed_over_is_refused(tmp_path: Path) -> None:
    path = handed_over(tmp_path / "a.ipynb", PLANTED)
    path.write_text(path.read_text().replace('\\"n_blocks\\": 12', '\\"n_blocks\\": \\"12\\"'))
    with pytest.raises(ValueError, match="n_blocks"):
        Found.of([path])


def test_the_answer() -> None:
    page = front("Asked.", Found([PLANTED, OTHER], [CONTRAST]))
    assert page.above.startswith("Asked. The paper is *ShortGPT")
    assert page.above.count("\n- ") == 5, "five sentences at most"
    assert "Transformer or RWKV: 2.70 against 10.4." in page.above
    assert page.below.count("\n") == 3, "one line a model"
    assert "<svg" in page.picture
    assert "Share of blocks that can go: 2 values, from" in page.alt
    assert [said for *_, said in page.points if said.startswith("effective share of blocks, b: 0.867")]
    assert page.below_caption
    assert page.csv.splitlines()[0] == "model,blocks that can go for 10 %,depth or width cheaper,does Block Influence know"
    assert page.files == {"figures/answers.svg": page.picture, "tables/answers.csv": page.csv}
    for word in ("mixer", "effective blocks", "gain over a byte unigram", "significant"):
        assert f"**{word}" in page.words


def test_pure_noise_is_not_known() -> None:
    """No sentence, cell or panel of a model with random weights holds a number about its redundancy."""
    page = front("", Found([NOISE], []))
    assert set(table([NOISE]).iloc[0, 1:]) == {"not known"}
    assert "Block Influence knows: not known (noise: it predicts" in page.above
    assert "can lose" not in page.above


def test_the_pair_of_most_seeds_speaks() -> None:
    more = replace(CONTRAST, effective=((2.7, 2.9), (10.4, 10.6)), sentence="Two seeds of each.")
    assert between_architectures(Found([], [CONTRAST, more, CONTRAST])) == ["Transformer or RWKV: Two seeds of each."]
    claimed = replace(CONTRAST, enough_seeds=True, sentence="Of the architectures.")
    assert between_architectures(Found([], [more, claimed])) == ["Transformer or RWKV: Of the architectures."]
    mamba = replace(more, architectures=("Transformer", "Mamba"), sentence="Two seeds.")
    assert between_architectures(Found([], [claimed, mamba]))[1] == (
        "Transformer or Mamba: Two seeds. (Of these models, not of their architectures.)"
    ), "beside what is said of architectures"


@pytest.mark.parametrize(("seeds", "enough"), [(2, False), (3, True)])
def test_what_few_seeds_say_enough_seeds(seeds: int, enough: bool) -> None:
    contrast = replace(CONTRAST, effective=((2.7,) * seeds, (10.4,) * (seeds + 1)), enough_seeds=enough)
    page = front("", Found([PLANTED], [contrast])).above
    assert ("fewer than 3 seeds of each say nothing" in page) is not enough
    assert ("as they were trained here" in page) is enough


def test_architectures_are_compared_without_a_comparison() -> None:
    (said,) = between_architectures(Found([PLANTED, OTHER], []))
    assert "2.70 against 10.4 effective blocks of 12" in said
    assert between_architectures(Found([PLANTED], [])) == []


def test_three_architectures_are_compared_two_by_two() -> None:
    third = replace(PLANTED, model="third", architecture="Mamba")
    said = between_architectures(Found([PLANTED, OTHER, third], [CONTRAST]))
    assert [sentence.split(":")[0] for sentence in said] == ["Transformer or RWKV", "Transformer or Mamba", "RWKV or Mamba"]
    assert said[0].endswith("2.70 against 10.4.")


def test_a_report_in_which_nothing_was_asked_that_it_answers() -> None:
    page = front("Asked.", Found([], []))
    assert (page.picture, page.below, page.files) == ("", "", {})
    assert "not known" not in page.above
