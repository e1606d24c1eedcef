"""`strata compare` without a report: by how much a model is worse than the one that it was pruned from, and others."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import strata as api
from adapters import load
from analysis.checkpoints import write
from analysis.comparison.difference import Difference, Known
from analysis.stats.intervals import accuracy
from tests.analysis.checkpoints.test_prune import here
from tests.analysis.tasks.makers import table_1
from tests.reference import variants
from tests.reference.command_line import Done, Strata
from tests.reference.models import save_reader
from tests.reference.models import spec as shape

N = 13


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory, prose: Path) -> tuple[Path, Path]:
    """A model and its child without block 1."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "parent").mkdir()
    save_reader(folder / "parent", num_hidden_layers=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "stock_logits", here)
        text = api.Text(str(prose), window=24, documents=N)
        api.remove(load(folder / "parent", device="cpu"), [1], text).save(folder / "child")
    return folder / "parent", folder / "child"


@pytest.fixture
def compare(strata: Strata, prose: Path) -> Strata:
    def run(*words: object) -> Done:
        return strata("compare", *words, "--corpus", prose, "--documents", N, "--window", 24, "--device", "cpu")

    return run


def test_a_child_is_held_against_its_parent(compare: Strata, family: tuple[Path, Path]) -> None:
    """By as much as its own strata.json says, which was measured on the same documents, with the same interval."""
    done = compare(*family)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "child is parent without block 1 of its 3"
    rise = json.loads((family[1] / "strata.json").read_text())["loss"]["rise"]
    rows = {row["metric"]: row for row in json.loads(compare(*family, "--json").stdout)}
    assert [rows["nll"][name] for name in ("difference", "ci_low", "ci_high")] == pytest.approx(list(rise.values()), rel=1e-5)
    assert rows["nll"]["value"] - rows["nll"]["other"] == pytest.approx(rows["nll"]["difference"])
    assert (rows["nll"]["than"], rows["bits_per_byte"]["model"], rows["nll"]["n_documents"]) == ("parent", "child", N)
    how = ("is worse than" if rise["value"] > 0 else "is better than") if rows["nll"]["significant"] else "differs from"
    assert f"child {how} parent on " in done.stdout
    assert re.search(r"^read .* documents, \d+ of them held-out", done.stdout, flags=re.M)
    assert not rows["nll"]["significant"] or rise["ci_low"] > 0 or rise["ci_high"] < 0
    back = {row["metric"]: row for row in json.loads(compare(*family[::-1], "--json").stdout)}
    assert back["nll"]["difference"] == pytest.approx(-rows["nll"]["difference"])


def test_answers_are_paired_by_question(compare: Strata, family: tuple[Path, Path], tmp_path: Path) -> None:
    table_1(tmp_path, N)
    words = ("--tasks", "piqa", "--data", tmp_path)
    row = next(r for r in json.loads(compare(*family, *words, "--json").stdout) if r["metric"] == "acc")
    right = []
    for folder in family:
        found = api.evaluate(load(folder, device="cpu"), "piqa", data=tmp_path, out=tmp_path / folder.name)
        acc = found.table.set_index("metric")["value"]["acc"]
        right.append(acc)
    assert [row["value"], row["other"]] == pytest.approx(right[::-1])
    assert row["difference"] == pytest.approx(right[1] - right[0], abs=1e-9)
    assert np.isfinite([row["ci_low"], row["ci_high"]]).all()
    assert accuracy(np.ones(N), np.zeros(N)).low is not None
    said = compare(*family, *words).stdout
    assert " acc, over 13 documents" in said
    assert "parent is not significantly better than chance on piqa: changes of its accuracy mean nothing" in said  # its weights are random


def known(name: str, **sums: np.ndarray) -> Known:
    spec = replace(shape(2), name=name)
    return Known(spec, (), {("texts", metric): (values, np.full(len(values), 10.0)) for metric, values in sums.items()})


@pytest.mark.parametrize("n", [6, 40])
def test_what_is_called_worse(n: int) -> None:
    """A planted effect, pure noise, and too little of both."""
    noise = np.random.default_rng(0).normal(size=(3, n))
    a, b = known("a", nll=30 + noise[0], bits_per_byte=20 + noise[1]), known("b", nll=33 + noise[0], bits_per_byte=20 + noise[2])
    worse, same = Difference([a, b]).sentences
    if n < 12:
        assert worse.startswith("b differs from a on texts by 0.300 nats per token, over 6 documents (an interval needs 12")
        return
    assert worse.startswith("b is worse than a on texts by 0.300 (0.300 to 0.300) nats per token, over 40 documents")
    assert same.startswith("b differs from a on texts by ")
    assert same.endswith(", not significantly")
    assert Difference([b, a]).sentences[0].startswith("a is better than b on texts by 0.300 (0.300 to 0.300)")


def test_models_of_other_tokenizers_are_compared_in_bits_alone(compare: Strata, family: tuple[Path, Path], tmp_path: Path) -> None:
    done = compare(family[0], variants.save("rwkv-7", tmp_path), "--json")
    assert [row["metric"] for row in json.loads(done.stdout)] == ["bits_per_byte"], done.stderr


def test_few_documents_say_what_they_need(strata: Strata, family: tuple[Path, Path], prose: Path) -> None:
    done = strata("compare", *family, "--corpus", prose, "--documents", 6, "--window", 24, "--device", "cpu")
    assert "over 6 documents (an interval needs 12 documents)" in done.stdout, done
    assert "significantly" not in done.stdout


def test_bad_input_is_one_line(strata: Strata, family: tuple[Path, Path], prose: Path, tmp_path: Path) -> None:
    for words, says in (
        ([family[0]], "1 model cannot be compared"),
        ([family[0], family[0]], "several models have the same name (parent, parent)"),
        ([*family, "--json", "--out", tmp_path / "out"], "--json prints by how much"),
        ([*family, "--data", tmp_path], "name them by --tasks"),
    ):
        done = strata("compare", *words, "--corpus", prose)
        assert (done.returncode, done.stderr.count("\n"), says in done.stderr) == (2, 1, True), done
