"""The command line, as a user meets it, on a small model."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import typer
from safetensors import safe_open

from analysis.engine.text_scores import TextScores
from analysis.runs.tables import COLUMNS, KEY
from reports.cli import main as cli
from reports.cli.stopping import Stopping
from tests.reference.command_line import Done


@pytest.fixture
def sweep(tiny_folder: Path, prose: Path) -> list[object]:
    return ["sweep", tiny_folder, "--corpus", prose, "--tokens", 14 * 32, "--window", 32]


def test_json_needs_no_folder(strata: Callable[..., Done], sweep: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as with one, but for the folder; without --json one is asked for, and shards have to meet in one."""
    monkeypatch.chdir(tmp_path)
    for command in ("sweep", "importance"):
        there, nowhere = (json.loads(strata(command, *sweep[1:], "--json", *more).stdout) for more in (("--out", command), ()))
        assert there == nowhere
    assert strata("spans", *sweep[1:], "--json").returncode == 0
    texts = strata("generate", sweep[1], *sweep[2:4], "--kind", "blocks", "--documents", 2, "--window", 8, "--max-tokens", 3, "--json")
    assert {row["kind"] for row in json.loads(texts.stdout)} == {"dense", "blocks"}, texts.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["importance", "sweep"]
    for words in ([], ["--json", "--shard", "0/2"]):
        done = strata(*sweep, *words)
        assert (done.returncode, "--out is missing" in done.stderr) == (2, True), done.stderr


def test_few_documents_have_no_interval_but_the_number_that_gives_one(
    strata: Callable[..., Done], tiny_folder: Path, prose: Path, tmp_path: Path
) -> None:
    words = ["sweep", tiny_folder, "--corpus", prose, "--window", 32, "--kind", "blocks"]
    few = strata(*words, "--tokens", 11 * 32, "--out", tmp_path / "few").stdout
    enough = strata(*words, "--tokens", 12 * 32, "--out", tmp_path / "enough").stdout
    assert (few.count("needs 12 documents"), enough.count("needs 12 documents")) == (3, 0)
    assert (few.count(" to "), enough.count(" to ")) == (0, 3)


def test_evaluate_reads_text_with_all_parts(strata: Callable[..., Done], sweep: list[object], tmp_path: Path) -> None:
    """The dense rows of a sweep, which then has them; and no folder unless one is named."""
    done = strata("evaluate", *sweep[1:], "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    dense = {row["metric"]: row for row in json.loads(strata(*sweep, "--json").stdout) if row["kind"] == "dense"}
    found = {row["metric"]: row for row in json.loads(strata("evaluate", *sweep[1:], "--json").stdout)}
    assert set(found) == {"ppl", "bits_per_byte", "delta_nll"}
    for metric in ("ppl", "bits_per_byte"):
        assert [found[metric][c] for c in COLUMNS] == [dense[metric][c] for c in COLUMNS]
    assert "perplexity " in done.stdout
    assert "14 documents, " in done.stdout
    assert (tmp_path / "run" / "summary.csv").is_file()
    few = strata("evaluate", *sweep[1:4], "--tokens", 64, "--window", 32)
    assert (few.returncode, few.stdout.count("(needs 12 documents)"), "table:" in few.stdout) == (0, 2, False), few


@pytest.mark.parametrize("kind", ["blocks", "heads"])
def test_sweep_writes_the_summary(strata: Callable[..., Done], sweep: list[object], tmp_path: Path, kind: str) -> None:
    done = strata(*sweep, "--kind", kind, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "run" / "summary.csv")
    assert list(table) == COLUMNS
    assert table["kind"].iloc[0] == "dense"
    assert set(table["metric"]) >= {"ppl", "delta_nll", "kl"}
    assert set(table["kind"]) == {"dense", kind}
    assert table["n_documents"].eq(14).all()
    assert table.loc[table["metric"] == "ppl", "ci_low"].notna().all()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["identity"]["dtype"] == "float32"
    assert manifest["versions"]["torch"]


def test_a_second_run_goes_on_and_json_is_the_table(strata: Callable[..., Done], sweep: list[object], tmp_path: Path) -> None:
    first = strata(*sweep, "--out", tmp_path / "run", "--json")
    records = (tmp_path / "run" / "scores").glob("*.jsonl")
    before = {path: path.read_bytes() for path in records}
    second = strata(*sweep, "--out", tmp_path / "run", "--json")
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert json.loads(first.stdout) == json.loads(second.stdout)
    assert before == {path: path.read_bytes() for path in before}


def test_control_variates(strata: Callable[..., Done], tmp_path: Path) -> None:
    words = ["sweep", "zoo-llama-0", "--kind", "heads", "--tokens", 12 * 24, "--window", 24, "--no-kl", "--device", "cpu"]
    dry = strata(*words, "--control", "--dry-run")
    assert "control variates: 12 documents swept and gradients on" in dry.stdout
    told = json.loads(strata(*words, "--control", "--dry-run", "--json").stdout)["control"]
    assert (told["swept"], told["gradients"][1], told["plain"]) == (12, 60, "")
    few = strata("sweep", "zoo-llama-0", "--tokens", 48, "--window", 24, "--control", "--dry-run")
    assert "no control variates: 2 documents are too few for a slope, which takes 12" in few.stdout
    done = strata(*words, "--control", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "Control variates: 12 documents swept, gradients on 60 documents" in " ".join(done.stdout.split())
    plain = strata(*words, "--out", tmp_path / "plain")
    assert "Control variates" not in plain.stdout
    found, other = (pd.read_csv(tmp_path / name / "summary.csv").query("kind == 'heads'").set_index("metric") for name in ("run", "plain"))
    ends = ["value", "ci_low", "ci_high"]
    assert (found.loc["delta_nll_plain", ends].to_numpy() == other.loc["delta_nll", ends].to_numpy()).all()
    assert (found.loc["delta_nll", "value"].to_numpy() != other.loc["delta_nll", "value"].to_numpy()).all()
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["control"]["gradients"] == 60


def test_importance_writes_bi(strata: Callable[..., Done], tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    done = strata("importance", tiny_folder, "--corpus", prose, "--tokens", 14 * 32, "--window", 32, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "run" / "summary.csv")
    assert list(table) == COLUMNS
    blocks = table[(table["metric"] == "bi") & (table["kind"] == "blocks")]
    assert blocks["block"].tolist() == list(range(len(blocks)))
    assert blocks["value"].between(0, 2).all()


def test_what_was_read_is_said_and_kept(strata: Callable[..., Done], tiny_folder: Path, tmp_path: Path) -> None:
    """By --dry-run, by the command itself, and in the manifest: with counts that are known here."""
    rows = [f"Text number {i}, which goes on for long enough to be a window of it." for i in range(40)]
    lines = [json.dumps({"text": text}) + "\n" for text in [*rows, rows[0].upper(), "", None]]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.jsonl").write_text("".join(lines))
    (tmp_path / "set" / "LICENSE.txt").write_text("No text of the corpus.")
    words = ["sweep", tiny_folder, "--corpus", tmp_path / "set", "--tokens", 3 * 32, "--window", 32]
    dry, done, as_json = strata(*words, "--dry-run"), strata(*words, "--out", tmp_path / "run"), strata(*words, "--dry-run", "--json")
    assert (dry.returncode, done.returncode) == (0, 0), dry.stderr + done.stderr
    said = next(line for line in done.stdout.splitlines() if line.startswith("read "))
    assert said in dry.stdout.splitlines()
    read = json.loads((tmp_path / "run" / "manifest.json").read_text())["read"]
    assert json.loads(as_json.stdout)["read"] == read
    assert [read[name] for name in ("rows", "empty", "repeated", "documents", "column")] == [43, 2, 1, 40, "text"]
    assert (read["files"], read["passed_over"]) == ([str(tmp_path / "set" / "a.jsonl")], {"beside texts": ["LICENSE.txt"]})
    assert f": 2 empty, 1 repeated, 40 documents, {read['in_split']} of them held-out; skipped LICENSE.txt (beside texts)" in said


def test_importance_of_every_metric_and_kind(strata: Callable[..., Done], tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    words = ["importance", tiny_folder, "--corpus", prose, "--tokens", 14 * 32, "--window", 32, "--metric", "all"]
    dry = strata(*words, "--kind", "blocks,mixers,ffns", "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    found = json.loads(dry.stdout)
    assert (found["documents"], found["tokens"]) == (14, 14 * 32)
    assert found["seconds"] > 0
    done = strata(*words, "--kind", "blocks,mixers,ffns", "--no-first-token", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "run" / "summary.csv")
    assert set(table["kind"]) == {"blocks", "mixers", "ffns"}
    assert table["metric"].nunique() == 7
    heads = strata(*words, "--kind", "heads", "--out", tmp_path / "heads", "--json")
    assert len({row["metric"] for row in json.loads(heads.stdout)}) == 7


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--metric", "tailor"], "did you mean taylor"),
        (["--kind", "mixer"], "did you mean mixers"),
        (["--kind", "kv_groups"], "unknown kind 'kv_groups'"),
    ],
)
def test_bad_metrics_and_kinds(
    strata: Callable[..., Done], tiny_folder: Path, prose: Path, tmp_path: Path, words: list[str], says: str
) -> None:
    done = strata("importance", tiny_folder, "--corpus", prose, "--out", tmp_path / "run", *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert not (tmp_path / "run").exists()


def test_spans_writes_the_angles(strata: Callable[..., Done], tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    done = strata("spans", tiny_folder, "--corpus", prose, "--tokens", 14 * 32, "--window", 32, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "0 to 2" in done.stdout, "the whole model is a span"
    table = pd.read_csv(tmp_path / "run" / "summary.csv")
    assert set(table["metric"]) == {"angular_last", "angular_all"}
    assert len(table) == 2 * 6


def test_a_dry_run_counts_and_writes_nothing(
    strata: Callable[..., Done], sweep: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = strata(*sweep, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    cost = json.loads(done.stdout)
    n = cost["mixer_rows"]
    assert n == cost["ffn_rows"] > 0
    assert cost["tokens"] == 14 * 32
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["sweep", "importance", "spans", "evaluate", "generate"])
def test_a_dry_run_refuses_what_the_run_refuses(strata: Callable[..., Done], sweep: list[object], tmp_path: Path, command: str) -> None:
    """A window that the model does not read, and a folder of another run."""
    for window, says in ((256, "is too long for"), (32, "is not empty and does not hold a run")):
        size = ["--documents", 14] if command == "generate" else ["--tokens", 14 * window]
        words = [command, *sweep[1:4], *size, "--window", window, "--out", tmp_path / "run"]
        dry, run = strata(*words, "--dry-run"), strata(*words)
        assert (dry.returncode, run.returncode) == (2, 2), dry.stdout + run.stdout
        assert dry.stderr == run.stderr
        assert says in dry.stderr
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "letter.txt").write_text("Somebody's own.")


def test_a_dry_run_of_plain_passes_and_of_one_model(
    strata: Callable[..., Done], sweep: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    turned, read = strata("spans", *sweep[1:], "--dry-run"), strata("evaluate", *sweep[1:], "--dry-run")
    assert (turned.returncode, read.returncode) == (0, 0), turned.stderr + read.stderr
    assert "angles of 6 spans of blocks" in turned.stdout
    assert "14 documents, 448 tokens, about " in turned.stdout
    assert "the unpruned model on 14 documents, 448 tokens" in read.stdout
    assert "3 passes through mixers and 3 through ffns per document, instead of 3 one by one" in read.stdout
    assert list(tmp_path.iterdir()) == []


def test_until_resolved_refuses_before_it_runs(strata: Callable[..., Done], tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    words = ["sweep", tiny_folder, "--corpus", prose, "--tokens", 64, "--window", 32, "--until-resolved", 0.01, "--out", tmp_path / "run"]
    dry, run = strata(*words, "--dry-run"), strata(*words)
    assert dry == run
    assert "2 documents are too few to decide" in dry.stderr


def test_streamed_weights_give_the_same_table_and_are_counted_before(
    strata: Callable[..., Done], sweep: list[object], tiny_folder: Path, tmp_path: Path
) -> None:
    dry = strata(*sweep, "--weights", "streamed", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "weights of blocks are streamed: read 1.00 times, 0 MB in all" in dry.stdout
    measured = strata("importance", *sweep[1:], "--metric", "bi,taylor", "--weights", "streamed", "--dry-run", "--json")
    turned = strata("spans", *sweep[1:], "--weights", "streamed", "--dry-run", "--json")
    three, one = (json.loads(done.stdout) for done in (measured, turned))
    with safe_open(tiny_folder / "model.safetensors", "pt") as file:
        sizes = {key: file.get_tensor(key).nbytes for key in file.keys()}  # noqa: SIM118 - it is no dict
    blocks = sum(size for key, size in sizes.items() if ".layers." in key)
    assert [(found["passes"], found["weights_read"]) for found in (three, one)] == [(3, 3 * blocks), (1, blocks)]
    assert one["load_read"] == 2 * sum(sizes.values())
    for weights in ("resident", "streamed"):
        done = strata(*sweep, "--weights", weights, "--out", tmp_path / weights)
        assert done.returncode == 0, done.stderr
    here, there = (pd.read_csv(tmp_path / weights / "summary.csv") for weights in ("resident", "streamed"))
    pd.testing.assert_frame_equal(here, there, rtol=1e-4, atol=1e-6)
    assert "unknown weights 'lazy'" in strata(*sweep, "--weights", "lazy", "--out", tmp_path / "no").stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--kind", "blokcs"], "blocks"),
        (["--corpus", "nowhere.txt"], "nowhere.txt"),
        (["--tokens", "8"], "window"),
        (["--device", "gpu"], "cuda"),
        (["--dtype", "float"], "float32"),
        (["--window", "256", "--tokens", "256"], "context"),
        (["--memory", "1", "--window", "250", "--tokens", "250"], "MB"),
        (["--memory", str(10**9)], "free on cpu: give less, or none"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    strata: Callable[..., Done], sweep: list[object], tmp_path: Path, words: list[str], says: str
) -> None:
    done = strata(*sweep, "--out", tmp_path / "run", *words)
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0, done.stderr
    assert done.stderr.startswith("strata: ")
    assert says in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_unknown_model_names_the_nearest(strata: Callable[..., Done], tmp_path: Path) -> None:
    done = strata("sweep", "smolm2", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "did you mean smollm2" in done.stderr
    assert not (tmp_path / "run").exists()


def test_every_command_has_an_example(strata: Callable[..., Done]) -> None:
    for command in ("fetch", "models", "sweep", "importance", "spans", "evaluate", "prune", "report", "compare"):
        assert "Example: strata" in strata(command, "--help").stdout.replace("\n", " "), command


@pytest.mark.parametrize("command", ["sweep", "importance", "spans", "evaluate", "prune", "report", "compare"])
def test_every_option_has_help(command: str) -> None:
    parameters = typer.main.get_command(cli._app(Stopping())).commands[command].params
    assert [p.name for p in parameters if not getattr(p, "help", None)] == []


def test_compared_models_are_held_as_is_asked(strata: Callable[..., Done], tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(tiny_folder, twin)
    words = ["compare", tiny_folder, twin, "--corpus", prose, "--documents", 12, "--window", 32, "--json", "--weights"]
    here, there, wrong = (strata(*words, weights) for weights in ("resident", "streamed", "lazy"))
    assert here.returncode == there.returncode == 0, here.stderr + there.stderr
    pd.testing.assert_frame_equal(*(pd.DataFrame(json.loads(done.stdout)) for done in (here, there)), rtol=1e-4, atol=1e-6)
    assert (wrong.returncode, "unknown weights 'lazy'" in wrong.stderr) == (2, True)


def test_a_report_on_a_full_disk(strata: Callable[..., Done], tiny_folder: Path, prose: Path, small_disk: Path) -> None:
    done = strata("report", tiny_folder, "--corpus", prose, "--out", small_disk / "out")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "free some space or give another --out" in done.stderr
    assert not list(small_disk.rglob("*.*"))


def test_a_dry_report_says_what_it_takes(strata: Callable[..., Done], tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    done = strata("report", tiny_folder, "--corpus", prose, "--documents", 3, "--window", 64, "--dry-run", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert re.search(r"depth: 3 documents of 64 tokens, about [0-9.]+ minutes", done.stdout)
    assert "are streamed" not in done.stderr
    words = ["--corpus", prose, "--documents", 3, "--only", "depth", "--weights", "streamed", "--dry-run", "--out", tmp_path / "out"]
    assert "weights of tiny-llama are streamed: a pass through its blocks reads " in strata("report", tiny_folder, *words).stderr.replace(
        str(tiny_folder), "tiny-llama"
    )
    assert not (tmp_path / "out").exists()


def test_a_report_made_again_scores_nothing_twice(strata: Callable[..., Done], tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    words = ["report", tiny_folder, "--only", "depth,importance", "--corpus", prose, "--out", tmp_path / "out"]
    first = strata(*words)
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "out" / "report.pdf").read_bytes().startswith(b"%PDF")
    records = {path: path.read_bytes() for path in (tmp_path / "out" / "runs").rglob("*.jsonl")}
    assert records
    (tmp_path / "out" / "report.pdf").unlink()
    assert strata(*words).returncode == 0
    assert records == {path: path.read_bytes() for path in records}, "nothing is scored twice"
    shown = {path.name.partition("--")[0] for kind in ("figures/*.svg", "tables/*.csv") for path in (tmp_path / "out").glob(kind)}
    assert shown == {"depth", "importance"}
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Figure 3" in html
    assert "Figure 8" in html


@pytest.mark.parametrize(("edit", "kind"), [("zero", "kv_groups"), ("zero,mean", "kv_groups,ffns")])
def test_parts_with_either_edit(strata: Callable[..., Done], tiny_folder: Path, prose: Path, tmp_path: Path, edit: str, kind: str) -> None:
    words = ["sweep", tiny_folder, "--corpus", prose, "--tokens", 64, "--window", 32, "--kind", kind, "--out", tmp_path / "run"]
    done = strata(*words, "--edit", edit)
    assert done.returncode == 0, done.stderr
    assert ("kv_groups (mean)" in done.stdout) == ("mean" in edit)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())["identity"]
    assert ("calibration" in manifest) == ("mean" in edit)
    table = pd.read_csv(tmp_path / "run" / "summary.csv")
    found = table[table["metric"] == "delta_nll"]["ablation"]
    assert found.is_unique
    assert {name.endswith("(mean)") for name in found} == ({False, True} if "mean" in edit else {False})
    other = strata(*words, "--edit", "mean" if edit == "zero" else "zero")
    assert other.returncode == 2
    assert "differs in calibration" in other.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--edit", "median", "--kind", "heads"], "unknown edit 'median': did you mean mean"),
        (["--until-resolved", "0.01"], "2 documents are too few to decide: at least 12 are needed, that is 384 tokens or more"),
        (["--until-resolved", "0.01", "--control"], "--control takes its decisions on one device: leave it out"),
        (["--control", "--task", "piqa"], "--edit and --until-resolved are for text only"),
        (["--edit", "mean", "--task", "piqa"], "--edit and --until-resolved are for text only"),
    ],
)
def test_bad_edits(strata: Callable[..., Done], tiny_folder: Path, prose: Path, tmp_path: Path, words: list[str], says: str) -> None:
    done = strata("sweep", tiny_folder, "--corpus", prose, "--tokens", 64, "--window", 32, "--out", tmp_path / "run", *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_sweep_until_all_is_resolved(strata: Callable[..., Done], sweep: list[object], tmp_path: Path) -> None:
    words = [*sweep, "--kind", "blocks", "--until-resolved", "0.01", "--out", tmp_path / "run"]
    done = strata(*words)
    assert done.returncode == 0, done.stderr
    assert "Of 3 ablations" in done.stdout
    assert "of the work of all documents for all ablations was saved." in done.stdout
    found = pd.read_csv(tmp_path / "run" / "decisions.csv")
    assert list(found) == [*KEY, "decision", "value", "low", "high", "n_documents"]
    assert found["block"].tolist() == [0, 1, 2]
    assert len(json.loads(strata(*words, "--json").stdout)) == 3


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--tasks", "piqqa"], "piqa"),
        (["--tasks", "piqa", "--data", "nowhere"], "nowhere"),
        (["--tasks", "piqa", "--only", "importance"], "importance shows no benchmarks"),
        (["--data", "texts"], "name them by --tasks"),
    ],
)
def test_bad_tasks_of_a_report(
    strata: Callable[..., Done], tiny_folder: Path, prose: Path, tmp_path: Path, words: list[object], says: str
) -> None:
    done = strata("report", tiny_folder, "--corpus", prose, "--out", tmp_path / "out", *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_names_that_act_on_a_terminal(strata: Callable[..., Done], tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    """In names of models, texts and folders, in what is printed and in what is refused."""
    model, text, out = (tmp_path / f"{name}\x1b[31m$x^" for name in ("model", "=text", "out"))
    shutil.copytree(tiny_folder, model)
    shutil.copyfile(prose, text.with_name(f"{text.name}.txt"))
    words = ["--corpus", text.with_name(f"{text.name}.txt"), "--tokens", 14 * 32, "--window", 32]
    done = strata("sweep", model, *words, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/out\\x1b[31m$x^/summary.csv" in done.stdout.replace("\n", "")
    lines = (out / "summary.csv").read_text().splitlines()[1:]
    assert not [cell for line in lines for cell in line.split(",") if cell.startswith(("=", "@", "+"))]
    refused = strata("sweep", tmp_path / "no\x1b[31mwhere\n", *words, "--out", tmp_path / "other")
    assert refused.returncode == 2
    assert "no\\x1b[31mwhere\\n" in refused.stderr
    assert "\x1b" not in done.stdout + done.stderr + refused.stderr
    assert refused.stderr.count("\n") == 1


NO_MEMORY = [
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_memory_that_runs_out_is_one_line(
    error: Exception, strata: Callable[..., Done], sweep: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command goes on."""

    def add(*given: object) -> None:
        raise error

    with monkeypatch.context() as full:
        full.setattr(TextScores, "add", add)
        done = strata(*sweep, "--out", tmp_path / "run")
    assert (done.returncode, done.stderr.count("memory ran out")) == (2, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert strata(*sweep, "--out", tmp_path / "run").returncode == 0
