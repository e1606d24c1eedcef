"""`strata tasks`, and `strata sweep --task`, as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from safetensors import safe_open

from tests.analysis.tasks import written_files
from tests.analysis.tasks.makers import table_1, write_lines
from tests.reference.command_line import Strata
from tests.reference.models import save_reader


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    table_1(folder, 13)
    return folder


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    save_reader(folder)
    return folder


def test_list_has_ours_and_lm_evals(strata: Strata) -> None:
    assert {"mmlu_anatomy", "cmmlu_anatomy"} <= set(strata("tasks", "list", "mmlu_anat")[1].split())
    names = set(json.loads(strata("tasks", "list", "--json")[1]))
    assert {"c3", "chid", "cmnli", "race_middle", "coqa_loss", "xsum_loss", "piqa", "wsc", "mmlu"} <= names


def test_list_has_the_exact_name_first(strata: Strata) -> None:
    found = strata("tasks", "list", "piqa").stdout.split()
    assert found[0] == "piqa"
    begins = [name.startswith("piqa") for name in found]
    assert begins == sorted(begins, reverse=True)
    assert not all(begins)  # global_piqa and others hold it
    assert strata("tasks", "list", "PIQA").stdout.split() == found


def test_a_list_of_nothing_names_what_is_near(strata: Strata) -> None:
    done = strata("tasks", "list", "piqqa")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "did you mean piqa" in done.stderr


def test_evaluate_a_task(strata: Strata, files: Path, reader: Path, tmp_path: Path) -> None:
    """What a sweep says of the unpruned model, written answers too."""
    words = [reader, "--task", "piqa", "--data", files, "--device", "cpu"]
    done = strata("evaluate", *words)
    assert done.returncode == 0, done.stderr
    dense = [row for row in json.loads(strata("sweep", *words, "--json").stdout) if row["kind"] == "dense"]
    found = pd.DataFrame(json.loads(strata("evaluate", *words, "--json").stdout))
    pd.testing.assert_frame_equal(found, pd.DataFrame(dense), rtol=1e-5)  # batches are others
    assert "piqa acc 0." in done.stdout
    assert "piqa: 13 documents" in done.stdout
    written_files.write(tmp_path)
    done = strata("evaluate", reader, "--task", "gsm8k", "--shots", 0, "--limit", 4, "--max-tokens", 6, "--data", tmp_path)
    assert "gsm8k exact_match,strict-match 0 (needs 12 documents)" in done.stdout


def test_show_prints_what_is_asked(strata: Strata, files: Path, reader: Path) -> None:
    code, out, _ = strata("tasks", "show", "mmlu_anatomy", "--doc", 3, "--shots", 1, "--data", files, "--model", reader)
    assert code == 0
    assert out.startswith("mmlu_anatomy, document 3, 4 continuations")
    assert out.count("Answer:") == 2  # of the example and of the question
    assert "continuation 3 (right): ' D'" in out
    assert "--- tokens 3: " in out
    assert "+ 2\n" in out  # a space and a letter, in bytes
    assert "right: ' a mat'" in strata("tasks", "show", "coqa_loss", "--data", files)[1]


def test_help_has_the_layout_of_files(strata: Strata) -> None:
    out = strata("tasks", "show", "--help")[1]
    assert "piqa/valid.jsonl: goal, sol1, sol2" in out


def test_sweep_of_a_task(strata: Strata, files: Path, reader: Path, tmp_path: Path) -> None:
    words = ["sweep", reader, "--task", "piqa", "--data", files, "--device", "cpu", "--out", tmp_path / "run"]
    code, out, _ = strata(*words)
    assert code == 0
    assert "unpruned piqa acc " in out
    assert "the unpruned model is not significantly better than chance on piqa" in out  # its weights are random
    table = pd.read_csv(tmp_path / "run" / "summary.csv")
    assert table["n_documents"].eq(13).all()
    again = json.loads(strata(*words, "--json")[1])
    assert len(again) == len(table)


def test_a_dry_run_of_a_task(strata: Strata, files: Path, reader: Path, tmp_path: Path) -> None:
    """Tokens are those that the run notes, and weights those of the file; of written answers it is what there is at most."""
    words = [reader, "--task", "piqa", "--data", files, "--device", "cpu", "--weights", "streamed"]
    found = json.loads(strata("sweep", *words, "--dry-run", "--json").stdout)
    assert strata("sweep", *words, "--out", tmp_path / "run").returncode == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    with safe_open(reader / "model.safetensors", "pt") as file:
        blocks = sum(file.get_tensor(key).nbytes for key in file.keys() if ".layers." in key)  # noqa: SIM118 - it is no dict
    assert (found["tokens"], found["questions"], found["continuations"]) == (manifest["tokens"], 13, 26)
    assert (found["weights_read"], found["passes"]) == (blocks, 1)
    assert found["memory"] > 0
    dry = strata("evaluate", *words, "--dry-run")
    assert "the unpruned model on 13 questions of piqa, 26 continuations, " in dry.stdout
    assert "weights of blocks are streamed: read 1.00 times" in dry.stdout
    few = strata("sweep", *words, "--memory", 1, "--kind", "heads", "--dry-run", "--json")
    assert json.loads(few.stdout)["memory"] - found["memory"] < 1 << 20
    cut = strata("sweep", reader, "--task", "mmlu_anatomy", "--shots", 2, "--limit", 3, "--data", files, "--dry-run")
    assert "12 requests exceed the context of 128 tokens and were truncated on the left" in cut.stdout
    written_files.write(tmp_path / "written")
    words = [reader, "--task", "gsm8k", "--shots", 0, "--limit", 4, "--data", tmp_path / "written", "--dry-run"]
    assert "4 texts of at most 24 new tokens together" in strata("evaluate", *words, "--max-tokens", 6).stdout
    refused = strata("evaluate", *words, "--max-tokens", 4000)
    assert (refused.returncode, "asks for 4000 new tokens" in refused.stderr) == (2, True)


def test_what_is_cut_is_counted(strata: Strata, files: Path, reader: Path, tmp_path: Path) -> None:
    done = strata("sweep", reader, "--task", "mmlu_anatomy", "--shots", 2, "--limit", 3, "--data", files, "--out", tmp_path / "run")
    assert "12 requests exceed the context of 128 tokens and were truncated on the left, as by lm_eval" in done[1]


def test_a_task_is_written(strata: Strata, reader: Path, tmp_path: Path) -> None:
    written_files.write(tmp_path)
    more = ("--limit", 4, "--max-tokens", 6, "--data", tmp_path)
    done = strata("sweep", reader, "--task", "gsm8k", "--shots", 0, *more, "--out", tmp_path / "run")
    assert done[0] == 0, done[2]
    assert "unpruned gsm8k exact_match,strict-match 0" in done[1]
    table = pd.read_csv(tmp_path / "run" / "summary.csv")
    assert {"delta_exact_match,flexible-extract", "exact_match,strict-match"} <= set(table["metric"])
    done = strata("tasks", "show", "coqa_turns", "--doc", 1, "--data", tmp_path, "--model", reader)
    assert "Who sat 2?" in done[1]
    assert "--- right: ['the cat 2', 'cat 2', 'a red cat 2']" in done[1]
    assert "--- tokens: " in done[1]
    done = strata("tasks", "show", "humaneval", "--data", tmp_path)
    assert (done[0], "humaneval runs programs that the model writes: allow it with --run-code" in done[2]) == (2, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tasks", "show", "piqqa"], "did you mean piqa"),
        (["tasks", "show", "piqa"], "cannot read baber/piqa for piqa"),
        (["tasks", "show", "coqa", "--data", "EMPTY"], "holds no rows of EleutherAI/coqa: expected coqa/coqa-dev-v1.0.json"),
        (["tasks", "show", "piqa", "--doc", "99", "--data", "FILES"], "piqa has no document 99: it has 13"),
        (["sweep", "MODEL", "--task", "piqa", "--data", "EMPTY", "--out", "RUN"], "holds no rows of baber/piqa: expected piqa/valid.jsonl"),
        (["sweep", "MODEL", "--task", "boolq", "--data", "BROKEN", "--out", "RUN"], "dev.jsonl, line 2: "),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str], says: str, strata: Strata, files: Path, reader: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    write_lines(tmp_path / "broken/boolq/dev.jsonl", ['{"question": "a", "passage": "b", "answer": true}', "{"])
    paths = {"FILES": files, "MODEL": reader, "EMPTY": tmp_path / "empty", "BROKEN": tmp_path / "broken", "RUN": tmp_path / "run"}
    code, _, err = strata(*(paths.get(word, word) for word in words))
    assert code == 2
    assert says in " ".join(err.split())


def test_a_benchmark_in_shards(strata: Strata, files: Path, reader: Path, tmp_path: Path) -> None:
    """Together they are the benchmark; where one is missing, that is said, or the table is of the other's questions."""
    words = ["sweep", reader, "--kind", "blocks", "--task", "piqa", "--data", files, "--device", "cpu", "--dtype", "float64"]
    assert strata(*words, "--out", tmp_path / "one")[0] == 0
    out, table = tmp_path / "dealt", tmp_path / "dealt" / "summary.csv"
    assert strata(*words, "--out", out, "--shard", "0/2")[0] == 0
    code, _, said = strata("merge", out)
    assert (code, "those of shard 1 of 2: run `strata sweep" in said) == (2, True), said
    assert strata("merge", out, "--allow-missing")[0] == 0
    one, part = pd.read_csv(tmp_path / "one" / "summary.csv"), pd.read_csv(table)
    assert 0 < part["n_documents"].max() < one["n_documents"].max()
    assert strata(*words, "--out", out, "--shard", "1/2")[0] == 0
    assert strata("merge", out)[0] == 0
    pd.testing.assert_frame_equal(pd.read_csv(table), one, rtol=1e-9, atol=1e-9)
