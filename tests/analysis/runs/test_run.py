"""A run goes on where it was killed, belongs to one text and to one writer of a name, and never holds half of anything."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adapters import Ablation, StrataError, load
from adapters.ablation import NONE
from analysis.data.batches import Text
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from analysis.engine.sweep import call_bytes, stream_bytes
from analysis.runs.records import Work
from analysis.runs.run import Run
from analysis.runs.sweep_run import SweepStudy
from tests.reference.models import save_reader

ROOT = Path(__file__).parents[3]
DOCUMENTS = 14
IDENTITY = {"model": "tiny", "text": {"bos": [(0, 1)]}}
METRICS = ("nll", "tokens")
TWO = [NONE, Ablation(heads={(0, 1)})]


def scored(*tokens: int) -> dict[str, np.ndarray]:
    """Of the dense model, on a document for each count."""
    return {"nll": np.array([tokens]) / 3, "tokens": np.array(tokens)}


def held(run: Run, *documents: str) -> list[int]:
    return run.records().scores(METRICS, [NONE], documents)["tokens"].tolist()


# A study, one document in each record, that kills itself with half of a record on the disk.
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.analysis.runs import test_run

folder, out, fatal = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
write, writes = os.write, 0

def deadly(fd, data):
    global writes
    writes += bytes(data).startswith(b"\\n{")
    if writes == fatal:
        write(fd, bytes(data)[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return write(fd, data)

study = test_run.study(folder)
os.write = deadly
study.run(out)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and a text."""
    folder = tmp_path_factory.mktemp("study")
    save_reader(folder)
    lines = (f"Line {i} of this text says that {i} times {i} is {i * i}, and no other line says so.\n" for i in range(4000))
    (folder / "text.txt").write_text("".join(lines))
    return folder


def study(folder: Path) -> SweepStudy:
    """With room for one document at once."""
    model = load(folder, device="cpu", dtype="float32")
    text = Text(corpus=str(folder / "text.txt"), window=24, documents=DOCUMENTS)
    p = plan(model.spec, single_ablations(model.spec, ["blocks", "heads"]))
    return SweepStudy(model, p, text, memory=call_bytes(model, p, 1, 26) + p.widest * stream_bytes(model, 1, 26))


def records(out: Path) -> list[dict]:
    """All whole lines."""
    found = []
    for path in out.glob("scores/*.jsonl"):
        for line in path.read_text().split("\n"):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


def times_scored(out: Path) -> Counter[str]:
    return Counter(document for record in records(out) for document in record["documents"])


def test_a_killed_study_goes_on(folder: Path, tmp_path: Path) -> None:
    """kill -9 in the middle of a record, and to the end: as if nothing had happened, and nothing is scored twice."""
    out = tmp_path / "killed"
    killed = subprocess.run([sys.executable, "-c", KILLED, folder, out, "4"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert times_scored(out).total() == 3
    assert not (out / "summary.csv").exists()
    study(folder).run(out)
    study(folder).run(tmp_path / "whole")
    assert set(times_scored(out).values()) == {1}
    assert times_scored(out) == times_scored(tmp_path / "whole")
    assert (out / "summary.csv").read_bytes() == (tmp_path / "whole" / "summary.csv").read_bytes()
    torn = [line for path in out.glob("scores/*.jsonl") for line in path.read_text().split("\n") if line]
    assert len(torn) == DOCUMENTS + 1, "the torn line is there, and passed over"


def test_a_finished_study_scores_nothing_again(folder: Path, tmp_path: Path) -> None:
    first, done = study(folder).run(tmp_path), list[int]()
    before = sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.glob("scores/*"))
    locks = list(tmp_path.rglob("*.lock"))
    for lock in locks:
        lock.unlink()
    before = [each for each in before if not each[0].endswith(".lock")]
    assert study(folder).run(tmp_path, done.append).equals(first)
    assert len(locks) == 2
    assert not list(tmp_path.rglob("*.lock")), "a finished run is only read"
    assert sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.glob("scores/*")) == before
    assert done == [DOCUMENTS * study(folder).steps]


def test_killed_before_the_manifest(tmp_path: Path) -> None:
    """What the first moments of a run leave behind is no reason to refuse the folder."""
    (tmp_path / "scores").mkdir()
    (tmp_path / ".lock").touch()
    (tmp_path / ".manifest.json.4711").write_text('{"schema": 1, "ke')
    with Run(tmp_path, IDENTITY).writing({}):
        pass
    assert json.loads((tmp_path / "manifest.json").read_text())["identity"]["model"] == "tiny"


def test_what_is_added_comes_back(tmp_path: Path) -> None:
    """Bit by bit, and the first of doubles counts."""
    run, rng = Run(tmp_path, IDENTITY, METRICS), np.random.default_rng(0)
    nll = rng.normal(size=(2, 3)) * 1e3
    with run.writing({}):
        run.add(TWO, ["a", "b", "c"], {"nll": nll, "tokens": np.array([4, 5, 6])})
        run.add(TWO[::-1], ["c", "d"], {"nll": nll[:, :2] + 1, "tokens": np.array([60, 7])})
    found = Run(tmp_path, IDENTITY, METRICS).records().scores(METRICS, TWO, "dbacb")
    assert np.array_equal(found["nll"], np.stack([nll[::-1, 1] + 1, *nll[:, [1, 0, 2, 1]].T], 1))
    assert found["tokens"].tolist() == [7, 5, 4, 6, 5]


def test_what_is_missing_is_known_by_ablation_metric_and_document(tmp_path: Path) -> None:
    """Each document with what it lacks, and those alike together; a document may be kept under several names."""
    run = Run(tmp_path, IDENTITY, ("nll", "kl", "tokens"))
    with run.writing({}):
        run.add(TWO, ["a", "b"], {"nll": np.ones((2, 2)), "tokens": np.array([1, 2])})
        run.add(TWO[:1], ["c"], {"nll": np.ones((1, 1)), "kl": np.ones((1, 1)), "tokens": np.array([1])})
    held, (none, head) = run.records(), TWO
    assert held.missing(["nll"], TWO, [["a"], ["b"]]) == {}
    assert held.missing(["nll"], TWO, [["a"], ["b"], ["c"], ["d"]]) == {Work.of([head], ["nll"]): [2], Work.of(TWO, ["nll"]): [3]}
    assert held.missing(["nll", "kl"], TWO, [["a"], ["c"], ["b"]]) == {
        Work.of(TWO, ["kl"]): [0, 2],
        Work.of([head], ["nll", "kl"]): [1],
    }
    assert held.missing(["nll"], TWO, [["a", "b"], ["b", "c"]]) == {Work.of([head], ["nll"]): [1]}
    assert Work(((none, ("kl",)), (head, ("nll", "kl")))).metrics == ["kl", "nll"]
    with pytest.raises(KeyError, match="kl"):
        held.scores(["nll", "kl"], TWO, ["a"])


@pytest.mark.parametrize("torn", ['\n{"key": "x", "docu', "\n", "\n\x00\x00\x00\x00", '\n{"key": "another run", "documents": ["b"]}'])
def test_torn_lines_are_passed_over(torn: str, tmp_path: Path) -> None:
    run = Run(tmp_path, IDENTITY, METRICS)
    with run.writing({}):
        run.add([NONE], ["a"], scored(1))
        (file,) = tmp_path.glob("scores/*.jsonl")
        file.write_text(file.read_text() + torn)
        run.add([NONE], ["b"], scored(2))
    assert held(run, "a", "b") == [1, 2]


def test_two_writers(tmp_path: Path) -> None:
    """Another process of the same name is refused while one writes, one of another name is not. The next one is let in."""
    code = f"""
import sys
from pathlib import Path
from adapters import StrataError
from adapters.ablation import NONE
from analysis.runs.run import Run
from tests.analysis.runs import test_run
try:
    run = Run(Path(sys.argv[1]), {IDENTITY!r}, {METRICS!r}, sys.argv[2])
    with run.writing({{}}):
        run.add([NONE], ["a", "b"], test_run.scored(1, 20))
        print("two at once")
except StrataError as error:
    print(error)
"""

    run = Run(tmp_path, IDENTITY, METRICS, "first")
    with run.writing({}):
        command = [sys.executable, "-c", code, tmp_path]
        same, other = (
            subprocess.run([*command, name], cwd=ROOT, capture_output=True, text=True, check=True).stdout for name in ("first", "second")
        )
        run.add([NONE], ["b", "c"], scored(2, 3))
    assert same.startswith(f"another process is writing to {tmp_path} (process {os.getpid()} on {platform.node()} holds first.lock): wait")
    assert other == "two at once\n"
    assert sorted(path.name for path in (tmp_path / "scores").glob("*.jsonl")) == ["first.jsonl", "second.jsonl"]
    assert held(run, "a", "b", "c") == [1, 2, 3], "of doubles the first counts"
    with run.writing({}):
        pass


def test_a_folder_of_another_text_says_what_differs(tmp_path: Path) -> None:
    run = Run(tmp_path, IDENTITY, METRICS)
    with run.writing({}):
        run.add([NONE], ["a"], scored(1))
    for changed, named in (({"model": "large"}, "model"), ({"text": {}}, "text"), ({"edit": "mean", "model": "b"}, "edit, model")):
        with pytest.raises(StrataError, match=rf"holds a run of another model or text \(it differs in {named}\): give another `out`"):
            Run(tmp_path, IDENTITY | changed)


def test_a_folder_without_records_may_be_taken_over(tmp_path: Path) -> None:
    """The first attempt ended with an error, say a stream that is not finite in float16; the second is in float32."""
    first, second = Run(tmp_path, IDENTITY, METRICS), Run(tmp_path, IDENTITY, METRICS)
    with first.writing({}):
        pass
    other = Run(tmp_path, IDENTITY | {"dtype": "float32"})
    with second.writing({}):
        second.add([NONE], ["a"], scored(1))
    with pytest.raises(StrataError, match=r"it differs in dtype\)"), other.writing({}):
        pytest.fail("two plans in one folder")


@pytest.mark.parametrize("manifest", ["", "[1, 2]", "not json", '{"name": "an extension"}'])
def test_a_manifest_of_something_else(manifest: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(StrataError, match="give another `out`"):
        Run(tmp_path, IDENTITY)


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(StrataError, match="is not empty and does not hold a run: give another `out`"):
        Run(tmp_path, IDENTITY)
    with pytest.raises(StrataError, match=r"thesis\.docx: Not a directory"):
        Run(tmp_path / "thesis.docx", IDENTITY)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.docx"]


def fill(disk: Path, keep: int) -> None:
    """Leaves `keep` bytes, in pages of 4 KB."""
    stat = os.statvfs(disk)
    (disk / "ballast").write_bytes(b"x" * (stat.f_bavail * stat.f_frsize - keep))


def test_a_disk_that_fills_up_while_records_are_written(small_disk: Path) -> None:
    """The record that does not fit is taken back whole; with room again, the run goes on."""
    run, large = Run(small_disk / "run", IDENTITY, ["nll"]), {"nll": np.full((900, 1), 1 / 3)}
    heads = [Ablation(heads={(0, i)}) for i in range(900)]

    def write_until_full() -> None:
        with run.writing({}):
            for i in range(100):
                run.add(heads, [f"document {i}"], large)

    with pytest.raises(StrataError, match=r"cannot write to .*: No space left on device; free some space"):
        write_until_full()
    (file,) = (small_disk / "run" / "scores").glob("*.jsonl")
    lines = [line for line in file.read_text().split("\n") if line]
    assert [json.loads(line)["documents"] for line in lines] == [["document 0"]]
    os.truncate(file, 0)
    with run.writing({}):
        run.add(heads, ["again"], large)
    assert run.records().of("nll", heads[:1], ["again", "document 0"])[1].tolist() == [[True, False]]


@pytest.mark.parametrize("keep", [0, 4096])
def test_a_full_disk_leaves_nothing_half_written(small_disk: Path, keep: int) -> None:
    """Neither a manifest nor a summary; a former summary stays as it was."""
    run = Run(small_disk / "run", IDENTITY)
    (small_disk / "run").mkdir()
    run.write_text("summary.csv", "kind,value\n")
    fill(small_disk, keep)
    for name in ("summary.csv", "other.csv"):
        with pytest.raises(StrataError, match="No space left on device"):
            run.write_text(name, "x" * 9000)
    assert (small_disk / "run" / "summary.csv").read_text() == "kind,value\n"
    assert [p.name for p in (small_disk / "run").iterdir()] == ["summary.csv"]


def test_a_study_on_a_full_disk(folder: Path, small_disk: Path) -> None:
    """A plain error, and once there is room the study is finished."""
    fill(small_disk, 16 << 10)
    with pytest.raises(StrataError, match="No space left on device"):
        study(folder).run(small_disk / "run")
    assert 0 < times_scored(small_disk / "run").total() < DOCUMENTS
    assert not (small_disk / "run" / "summary.csv").exists()
    (small_disk / "ballast").unlink()
    table = study(folder).run(small_disk / "run")
    assert table["n_documents"].unique().tolist() == [DOCUMENTS]
    assert set(times_scored(small_disk / "run").values()) == {1}


def test_errors_of_others_are_not_hidden(tmp_path: Path) -> None:
    """Only what the disk says becomes a StrataError."""
    with pytest.raises(ZeroDivisionError), Run(tmp_path, IDENTITY).writing({}):
        raise ZeroDivisionError
    with pytest.raises(StrataError, match="Input/output error"), Run(tmp_path, IDENTITY).writing({}):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_space_is_asked_for_when_the_disk_is_full_only(tmp_path: Path) -> None:
    """A folder that cannot be there is named, and needs another place."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StrataError, match=r"cannot write to .*: Not a directory; give another `out`$"):
        Run(tmp_path / "file" / "run", IDENTITY).write_text("summary.csv", "")
    with pytest.raises(StrataError, match=r"cannot write to .*: Input/output error$"), Run(tmp_path / "run", IDENTITY).writing({}):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(StrataError, match=r"free some space or give another `out`$"), Run(tmp_path / "run", IDENTITY).writing({}):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
