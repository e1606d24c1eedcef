"""Nothing in a run folder is taken on trust: damaged lines are passed over and counted, other damage is refused in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import Ablation, StrataError
from adapters.ablation import NONE
from analysis.data.hashes import content_hash
from analysis.runs.files import read_json, write_text
from analysis.runs.folder import Folder
from analysis.runs.run import Run
from tests.analysis.runs.test_run import folder, study

__all__ = ["folder"]  # a fixture
IDENTITY = {"model": "tiny", "heads": [(0, 1)]}
KEY = content_hash(IDENTITY)
METRICS = ("nll", "greedy", "tokens")
TWO = [NONE, Ablation(heads={(0, 1)})]
GOOD = {"nll": [[1.5], [2]], "greedy": [[True], [False]], "tokens": [3]}


def opened(out: Path) -> Run:
    return Run(out, IDENTITY, METRICS)


def record(scores: object = None, **changes: object) -> dict[str, object]:
    return {"key": KEY, "ablations": [{}, {"heads": [[0, 1]]}], "documents": ["a"], "scores": GOOD if scores is None else scores} | changes


DAMAGED: dict[str, str | bytes | dict] = {
    "torn": '{"key": "x", "docu',
    "zeros": b"\0\0\0\0",
    "no text": b"\xff\xfe{}",
    "another kind": "[1, 2]",
    "nested": "[" * 100_000,
    "another run": record(key="0123"),
    "no documents": {k: v for k, v in record().items() if k != "documents"},
    "no ablations": {"key": KEY, "documents": ["a"], "scores": GOOD},
    "of the first schema": {"key": KEY, "documents": ["a"], "scores": GOOD},
    "ablations are text": record(ablations="ab"),
    "ablations are indices": record(ablations=[0, 1]),
    "an unknown part": record(ablations=[{}, {"layers": [1]}]),
    "a block that is text": record(ablations=[{}, {"blocks": ["1"]}]),
    "a block that is true": record(ablations=[{}, {"blocks": [True]}]),
    "blocks that are one": record(ablations=[{}, {"blocks": 1}]),
    "half a head": record(ablations=[{}, {"heads": [[1]]}]),
    "not canonical": record(ablations=[{}, {"blocks": [2, 1]}]),
    "documents are text": record(documents="a"),
    "documents are numbers": record(documents=[1]),
    "more documents than scores": record(documents=["a", "b"]),
    "something beside": record(about="me"),
    "a metric too few": record({k: v for k, v in GOOD.items() if k != "tokens"}),
    "no metric but counts": record({"tokens": [3]}),
    "a metric too many": record(GOOD | {"kl": [[1.0], [2.0]]}),
    "scores are a list": record([1.0]),
    "an ablation too few": record(GOOD | {"nll": [[1.5]]}),
    "an ablation too many": record(GOOD | {"nll": [[1.5], [2.0], [2.5]]}),
    "ragged": record(GOOD | {"nll": [[1.5], [2.0, 3.0]]}),
    "not a number": json.dumps(record(GOOD | {"nll": [[float("nan")], [2.0]]})),
    "infinite": json.dumps(record(GOOD | {"nll": [[1.5], [float("inf")]]})),
    "too large": json.dumps(record()).replace("1.5", "1e999"),
    "text": record(GOOD | {"nll": [["1.5"], [2.0]]}),
    "null": record(GOOD | {"nll": [[None], [2.0]]}),
    "a flag among numbers": record(GOOD | {"nll": [[True], [2.0]]}),
    "flags are numbers": record(GOOD | {"greedy": [[1], [0]]}),
    "no tokens": record(GOOD | {"tokens": [0]}),
    "tokens below zero": record(GOOD | {"tokens": [-3]}),
    "half a token": record(GOOD | {"tokens": [1.5]}),
    "more tokens than there are": record(GOOD | {"tokens": [2**70]}),
}


def write(out: Path, *lines: str | bytes | dict) -> None:
    (out / "scores").mkdir(parents=True, exist_ok=True)
    texts = (line if isinstance(line, str | bytes) else json.dumps(line) for line in lines)
    data = b"\n".join(text if isinstance(text, bytes) else text.encode() for text in texts)
    (out / "scores" / "host.jsonl").write_bytes(b"\n" + data)


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_line_is_passed_over_and_counted(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(tmp_path).writing({}):
        write(tmp_path, DAMAGED[name], record(documents=["b"]), DAMAGED[name], record())
    found = opened(tmp_path).records()
    assert len(found.records) == 2
    assert found.scores(["nll"], TWO, ["a", "b"])["nll"].tolist() == [[1.5, 1.5], [2, 2]]
    opened(tmp_path).records()
    said = capsys.readouterr().err
    assert said == f"strata: {tmp_path}/scores/host.jsonl: 2 damaged lines skipped, as a killed process may leave\n"


def test_what_a_study_cannot_use_is_scored_again(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Records of another shape, and with numbers that are none: the table is that of a folder without damage, byte by byte."""
    study(folder).run(tmp_path / "whole")
    study(folder).run(tmp_path / "damaged")
    (file,) = (tmp_path / "damaged" / "scores").glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text().split("\n") if line]
    lines[1]["scores"]["nll"] = lines[1]["scores"]["nll"][:-1]
    lines[3]["scores"]["kl"][1][0] = float("nan")
    lines[4]["scores"]["tokens"] = [0]
    file.write_text("".join(f"\n{json.dumps(line)}" for line in lines))
    (tmp_path / "damaged" / "summary.csv").write_text("kind,value\n")
    capsys.readouterr()
    study(folder).run(tmp_path / "damaged")
    assert "3 damaged lines skipped" in capsys.readouterr().err
    assert (tmp_path / "damaged" / "summary.csv").read_bytes() == (tmp_path / "whole" / "summary.csv").read_bytes()


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ({"nll": [[np.nan], [1.0]]}, "nll is not finite everywhere"),
        ({"tokens": [0]}, "tokens is not positive everywhere"),
        ({"nll": [[1.0]]}, "nll is not 2 x 1 numbers"),
        ({"kl": [[1.0]]}, "its metrics are not nll, greedy, tokens"),
    ],
)
def test_what_would_not_be_read_again_is_not_written(scores: dict, says: str, tmp_path: Path) -> None:
    run = opened(tmp_path)
    with run.writing({}), pytest.raises(StrataError, match=f"scores of a and 0 other documents cannot be kept: {says}"):
        run.add(TWO, ["a"], {name: np.array(values) for name, values in (GOOD | scores).items()})
    assert not list(tmp_path.glob("scores/*.jsonl"))


def test_scores_that_are_no_file(tmp_path: Path) -> None:
    with opened(tmp_path).writing({}):
        (tmp_path / "scores" / "a.jsonl").mkdir(parents=True)
    with pytest.raises(StrataError, match=r"a\.jsonl is not a file: remove it$"):
        opened(tmp_path).records()


ASKED = {content_hash([ablation.to_json() for ablation in TWO]): ["a", "b"]}
MANIFEST: dict[str, Any] = {"schema": 2, "key": KEY, "identity": {"model": "tiny", "heads": [[0, 1]]}, "asked": ASKED}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": 1, "windows": ["a"]}, "is of schema 1, this version of Strata reads 2: give another `out`"),
        ({"schema": 3}, "is of schema 3, this version of Strata reads 2: give another `out`"),
        ({"schema": "2"}, "'schema': Input should be a valid integer; give another `out`"),
        ({"key": "0" * 16}, "its key is not that of its identity; give another `out`"),
        ({"identity": {"model": "large"}}, "its key is not that of its identity"),
        ({"identity": [1]}, "'identity': Input should be"),
        ({"asked": ["a"]}, "'asked': Input should be an object"),
        ({"asked": {"x": 10**9}}, r"'asked'\.'x': Input should be a valid"),
        ({"asked": {"x": ["a", 2]}}, r"'asked'\.'x'\.1: Input should be a valid string"),
        ({"table": {"documents": ["a"]}}, r"'table'\.'sha256': Field required"),
        ({"note": float("nan")}, "NaN is not a JSON number"),
        ({"note": float("-inf")}, "-Infinity is not a JSON number"),
    ],
)
def test_a_damaged_manifest_is_refused_in_one_line(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    assert opened(tmp_path).planned(TWO) == 2
    assert opened(tmp_path).planned(TWO[1:]) == 0, "somebody may have asked for others"
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST | changes))
    with pytest.raises(StrataError, match=rf"manifest\.json .*{says}") as raised:
        opened(tmp_path)
    assert "\n" not in str(raised.value)


def test_what_was_planned_is_of_the_same_plan(tmp_path: Path) -> None:
    """A folder without records is taken over; how many documents another plan wanted is not."""
    other = {"model": "large"}
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST | {"identity": other, "key": content_hash(other)}))
    assert opened(tmp_path).planned(TWO) == 0


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"\x1b[31mred": "\x1b[2J"}))
    with pytest.raises(StrataError) as raised:
        read_json(tmp_path / "a.json", dict[str, int], "remove it")
    assert str(raised.value).isprintable()


def test_a_file_that_would_never_end_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(StrataError, match="it is not a file; give another `out`"):
        opened(tmp_path)


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_text(path, "before")
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(OSError, match="gone"):
        write_text(path, "after")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.json", "before")]


def test_a_folder_of_another_request_shows_how_to_go_on(tmp_path: Path) -> None:
    first = Folder(tmp_path / "out", {"models": ["a"], "seed": 0}, "report", "request", made="notebooks")
    with first.writing({}):
        (tmp_path / "out" / "notebooks").mkdir()
    other = {"models": ["b"], "seed": 0, "documents": 3}
    says = rf"holds a report of another request \(it differs in documents, models\): give another `out`, for example `out` {tmp_path}/out-"
    with pytest.raises(StrataError, match=says) as raised:
        Folder(tmp_path / "out", other, "report", "request", made="notebooks")
    Folder(Path(str(raised.value).rpartition(" ")[2]), other, "report", "request", made="notebooks")
