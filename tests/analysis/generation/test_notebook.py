"""The notebook on generation, run on small models, with benchmarks of either kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.generation.results import Generation
from analysis.generation.study import sizes
from tests.analysis.tasks import makers, written_files
from tests.analysis.test_notebooks_on_variants import folder, run, saved  # noqa: F401  # a fixture


@pytest.mark.parametrize("variant", ["baichuan2-13b", "rwkv-4", "rwkv-7"])
def test_notebook(variant: str, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    source = saved(variant, folder, tmp_path)
    names = run(
        "generation", model=str(source), corpus=str(folder / "text.txt"), documents=12, window=8, device="cpu", out=str(tmp_path / "runs")
    )
    study = names["study"]
    assert isinstance(study, Generation)
    assert study.texts.shape == (len(study.plan.ablations), 12)
    assert len(study.samples()) == 4, "the prompt, unpruned, and without one and two of three blocks"
    assert study.sampled == "1 and 2 blocks"
    assert study.along("agreement")["ci_low"].notna().all()
    assert study.heads.empty, "a short budget does not hold them"
    assert "agree with the unpruned model's text" in study.conclusion


def test_sizes() -> None:
    assert [sizes(n) for n in (2, 3, 12, 30)] == [[1], [1, 2], [1, 2, 3, 4, 5, 6, 8], [1, 2, 3, 4, 6, 8, 9, 12, 15, 16]]


@pytest.mark.long
def test_benchmarks_and_heads(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    """Answers that are written, chosen, and neither; heads at the full budget."""
    source = saved("baichuan2-13b", folder, tmp_path)
    makers.table_1(tmp_path / "data", 12)
    written_files.write(tmp_path / "data", 12)
    options = {"tasks": "coqa_turns,piqa,coqa_loss", "limit": 12, "data": str(tmp_path / "data"), "documents": 12, "window": 8}
    options |= {"max_tokens": 4, "budget": "full"}
    names = run("generation", model=str(source), corpus=str(folder / "text.txt"), device="cpu", out=str(tmp_path / "runs"), **options)
    study = names["study"]
    assert [task.title for task in study.tasks] == ["coqa_turns, generated", "piqa, multiple choice", "coqa_loss, loss"]
    assert set(study.kept["order"]) == {"perplexity", "agreement", *(task.title for task in study.tasks)}
    assert study.kept.loc[study.kept["order"].isin(["perplexity", "coqa_loss, loss"]), "ci_high"].notna().all()
    assert list(study.benchmarks["blocks removed"]) == ["0", "1", "2"]
    assert len(study.heads) == sum(block.n_heads for block in study.model.spec.blocks)
    assert "Without a single head, " in study.conclusion
