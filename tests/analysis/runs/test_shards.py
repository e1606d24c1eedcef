"""Shards: together they are the study, each is written by one process, and what is wrong with them is said."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from adapters import BlockModel, StrataError, load
from adapters.registry import load_shapes
from analysis.data.batches import Text
from analysis.engine.ablations import single_ablations
from analysis.metrics.spans import SpanStudy
from analysis.metrics.study import ImportanceStudy
from analysis.runs import shards
from analysis.runs.scoring import map_documents
from analysis.runs.shards import FILE, OnShard, Shard, merge, read_plan
from analysis.runs.sweep_run import SweepStudy, sweep_table
from tests.reference.models import save_reader

ROOT = Path(__file__).parents[3]
COMMAND = ["sweep", "a model", "--tokens", "960"]
MAKERS: dict[str, Callable[[BlockModel, Text], Any]] = {
    "sweep": lambda model, text: SweepStudy.of(model, single_ablations(model.spec, ["blocks", "heads"]), text),
    "importance": lambda model, text: ImportanceStudy(model, text, ("bi", "taylor"), ("blocks", "ffns")),
    "spans": SpanStudy,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    (folder / "text.txt").write_text("".join(f"Line {i}: {i} times {i} is {i * i}, café 天 {i % 7}.\n" for i in range(6000)))
    save_reader(folder, num_hidden_layers=4)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> BlockModel:
    return load(folder, device="cpu", dtype="float32")


@pytest.fixture
def text(folder: Path) -> Text:
    return Text(corpus=str(folder / "text.txt"), window=24, documents=40)


def score(study: Any, out: Path, index: int, of: int) -> None:
    map_documents(study.open(out), study.scoring(), OnShard(Shard(index, of), COMMAND))


def lines(out: Path) -> Iterator[dict]:
    for path in out.glob("scores/*.jsonl"):
        yield from (json.loads(line) for line in path.read_text().split("\n") if line)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("of", [2, 4])
def test_shards_are_the_study(model: BlockModel, text: Text, folder: Path, tmp_path: Path, name: str, of: int) -> None:
    """In any order, some of them twice, and without the weights where the table is made: byte by byte, or in other batches nearly."""
    study = MAKERS[name](model, text)
    study.run(tmp_path / "one")
    out = tmp_path / "dealt"
    for index in (1, *range(of)):
        score(study, out, index, of)
    assert len(list(out.glob("scores/shard-*.jsonl"))) == min(of, len(read_plan(out).ends))  # type: ignore[union-attr]
    shapes = load_shapes(folder, of="cpu", dtype="float32")
    merge(MAKERS[name](shapes, text), out)
    same_batches = {len(line["documents"]) for line in lines(out)} == {len(line["documents"]) for line in lines(tmp_path / "one")}
    assert same_batches or of == 4
    if same_batches:
        assert (out / "summary.csv").read_bytes() == (tmp_path / "one" / "summary.csv").read_bytes()
    one, dealt = (pd.read_csv(tmp_path / which / "summary.csv") for which in ("one", "dealt"))
    pd.testing.assert_frame_equal(dealt, one, rtol=1e-5, atol=1e-6)
    scored = [(line["documents"], tuple(line["scores"])) for line in lines(out)]
    assert sum(len(documents) for documents, _ in scored) == 40 * len({metrics for _, metrics in scored}), "nothing is scored twice"


def test_other_batches_give_the_same_table_in_fp64(folder: Path, text: Text, tmp_path: Path) -> None:
    study = MAKERS["sweep"](load(folder, device="cpu", dtype="float64"), text)
    study.run(tmp_path / "one")
    for index in range(9):
        score(study, tmp_path / "dealt", index, 9)
    merge(study, tmp_path / "dealt")
    one, dealt = (pd.read_csv(tmp_path / which / "summary.csv") for which in ("one", "dealt"))
    pd.testing.assert_frame_equal(dealt, one, rtol=1e-9, atol=1e-9)


def test_what_is_missing_and_the_command_for_it(model: BlockModel, text: Text, tmp_path: Path) -> None:
    study, out = MAKERS["sweep"](model, text), tmp_path / "o ut"
    score(study, out, 2, 4)
    plan = read_plan(out)
    assert plan
    own = sum(map(len, plan.units(2)))
    with pytest.raises(StrataError) as error:
        merge(study, out)
    assert f"lacks {40 - own} of 40 documents, those of shards 0, 1, 3 of 4: " in str(error.value)
    assert f"run `strata sweep 'a model' --tokens 960 --out '{out}' --shard 0/4` and so on; " in str(error.value)
    assert not (out / "summary.csv").exists()
    table, part = merge(study, out, allow_missing=True)
    assert set(table["n_documents"]) == {own}
    shards_documents = [d for unit in plan.units(2) for d in unit]
    sums = study.scores_of(tmp_path / "alone", [study.text.windows(model)[d] for d in shards_documents])
    pd.testing.assert_frame_equal(table, sweep_table(study.plan, sums, text), rtol=1e-5, atol=1e-6)
    assert part.documents == [study.documents[d] for d in shards_documents]
    for index in (0, 1, 3):
        score(study, out, index, 4)
    assert set(merge(study, out)[0]["n_documents"]) == {40}


def test_a_table_of_nothing_is_refused(model: BlockModel, text: Text, tmp_path: Path) -> None:
    study = MAKERS["sweep"](model, text)
    score(study, tmp_path / "out", 0, 4)
    for path in (tmp_path / "out" / "scores").glob("*.jsonl"):
        path.unlink()
    with pytest.raises(StrataError, match="lacks 40 of 40 documents"):
        merge(study, tmp_path / "out", allow_missing=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("5/4", "5/4 does not exist: shards count from 0; give 0/4 to 3/4"),
        ("4/4", "give 0/4 to 3/4"),
        ("0/0", "for example 3/16"),
        ("1/1000000", "of 100,000 at most"),
        ("1", "is no share of a study"),
        ("-1/4", "is no share of a study"),
        ("a/4", "is no share of a study"),
        ("1/4/5", "is no share of a study"),
        ("\u0661/4", "is no share of a study"),
        ("slurm/4", "SLURM_ARRAY_TASK_ID, which is not set"),
        ("slurm/", "SLURM_ARRAY_TASK_ID, which is not set"),
    ],
)
def test_shards_that_do_not_exist(words: str, said: str) -> None:
    with pytest.raises(StrataError, match=re.escape(said)):
        Shard.parse(words, {})


def test_a_shard_of_an_array_is_its_index_and_nothing_else() -> None:
    """A retry of tasks 1 and 3 is an array of two, as Slurm says: the number of shards is the one that is given."""
    environment = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "3"}
    assert Shard.parse("slurm/16", environment) == Shard(3, 16)
    with pytest.raises(StrataError, match="slurm/2 does not exist"):
        Shard.parse("slurm/2", environment)


def test_shards_of_other_plans(model: BlockModel, text: Text, folder: Path, tmp_path: Path) -> None:
    """What differs is named; when the table is made another plan may follow."""
    study, out = MAKERS["sweep"](model, text), tmp_path / "out"
    score(study, out, 0, 2)
    fewer = SweepStudy.of(model, single_ablations(model.spec, ["blocks"]), text)
    less = MAKERS["sweep"](model, Text(corpus=text.corpus, window=24, documents=20))
    without = SweepStudy.of(model, single_ablations(model.spec, ["blocks", "heads"]), text, kl=False)
    extra = SweepStudy.of(model, [*single_ablations(model.spec, ["blocks", "heads"]), *single_ablations(model.spec, ["ffns"])], text)
    with pytest.raises(StrataError, match=r"number of shards: 2 there, 3 here\): finish and merge them first"):
        score(study, out, 1, 3)
    with pytest.raises(StrataError, match=r"ablations: 21 ablations, \w+ there, 25 ablations, \w+ here"):
        score(extra, out, 1, 2)
    for other, named in ((fewer, "ablations"), (less, "documents"), (without, "metrics: nll, kl there, nll here")):
        with pytest.raises(StrataError, match=f"holds shards of another plan .*{named}"):
            merge(other, out)
    with pytest.raises(StrataError, match="it differs in text"):
        merge(MAKERS["sweep"](model, Text(corpus=text.corpus, window=20, documents=40)), out)
    score(study, out, 1, 2)
    merge(study, out)
    score(extra, out, 1, 3)
    assert read_plan(out).of == 3  # type: ignore[union-attr]


def test_machines_with_other_versions(model: BlockModel, text: Text, tmp_path: Path) -> None:
    study, out = MAKERS["sweep"](model, text), tmp_path / "out"
    score(study, out, 0, 2)
    plan = json.loads((out / FILE).read_text())
    plan["versions"]["torch"] = "2.9.0"
    (out / FILE).write_text(json.dumps(plan))
    with pytest.raises(StrataError, match=r"are scored with torch 2\.9\.0, and \S+ has \S+: use the same environment on all machines"):
        score(study, out, 1, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"of": 0}, "'of': Input should be greater than 0"),
        ({"of": "2"}, "'of': Input should be a valid integer"),
        ({"ends": [40, 20]}, "its units overlap"),
        ({"ends": [0, 20]}, "its units overlap"),
        ({"more": 1}, "'more': Extra inputs"),
    ],
)
def test_a_damaged_plan(model: BlockModel, text: Text, tmp_path: Path, change: dict, said: str) -> None:
    study, out = MAKERS["sweep"](model, text), tmp_path / "out"
    score(study, out, 0, 2)
    (out / FILE).write_text(json.dumps(json.loads((out / FILE).read_text()) | change))
    with pytest.raises(StrataError, match=re.escape(said)):
        score(study, out, 1, 2)
    with pytest.raises(StrataError, match="remove it to deal the study out anew; scores are kept"):
        merge(study, out)


@pytest.mark.parametrize("ends", [[20], [20, 41]])
def test_a_plan_that_is_of_fewer_or_more_documents(model: BlockModel, text: Text, tmp_path: Path, ends: list[int]) -> None:
    study, out = MAKERS["sweep"](model, text), tmp_path / "out"
    score(study, out, 0, 2)
    (out / FILE).write_text(json.dumps(json.loads((out / FILE).read_text()) | {"ends": ends}))
    for call in (lambda: score(study, out, 1, 2), lambda: merge(study, out)):
        with pytest.raises(StrataError, match="cannot be used: its units are not of the 40 documents"):
            call()


HOLD = """
import sys, time
from pathlib import Path
from analysis.runs.run import Run
with Run(Path(sys.argv[1]), {"a": 1}, ["nll"], "shard-1-of-4").writing({}):
    print("held", flush=True)
    time.sleep(100)
"""


def test_one_writer_for_each_shard(tmp_path: Path) -> None:
    """Another shard may be written meanwhile; who holds this one is said, and when it is killed the next one goes on."""
    run = shards.Run(tmp_path, {"a": 1}, ["nll"])
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        assert process.stdout.readline() == "held\n"
        lock = tmp_path / "scores" / "shard-1-of-4.lock"
        said = f"another process is writing to {tmp_path} (process {process.pid} on {platform.node()} holds {lock.name}): wait for it"
        with pytest.raises(StrataError, match=re.escape(said)), run.written_by("shard-1-of-4").writing({}):
            pass
        with run.written_by("shard-2-of-4").writing({}):
            pass
    finally:
        process.kill()
        process.communicate()
    with run.written_by("shard-1-of-4").writing({}):
        pass


def test_what_a_dead_machine_left_locks_nobody_out(model: BlockModel, text: Text, tmp_path: Path) -> None:
    """A lock file is no lock: its name of a machine is stale, and its clock was an hour ahead."""
    study, out = MAKERS["sweep"](model, text), tmp_path / "out"
    score(study, out, 0, 2)
    for lock in (out / "scores" / "shard-1-of-2.lock", out / ".lock"):
        lock.write_text("process 4711 on node17.cluster\n")
        os.utime(lock, (time.time() + 3600, time.time() + 3600))
    score(study, out, 1, 2)
    assert set(merge(study, out)[0]["n_documents"]) == {40}
    assert platform.node() in (out / "scores" / "shard-1-of-2.lock").read_text()


def test_shards_that_begin_at_once_agree(model: BlockModel, text: Text, tmp_path: Path) -> None:
    study, out, errors = MAKERS["importance"](model, text), tmp_path / "out", list[BaseException]()

    def one(index: int) -> None:
        try:
            score(study, out, index, 4)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(merge(study, out)[0]["n_documents"]) == {40}
