"""`strata generate` from outside: texts with and without parts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from adapters import Ablation, StrataError, load
from analysis.data.batches import Text
from analysis.engine.decoding import generate
from analysis.writing.study import beginnings
from reports.cli.generate import parts
from tests.reference.command_line import Strata


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", Ablation()),
        ("3,7", Ablation(blocks={3, 7})),
        ("3, 7; heads 2.1, 2.10; ffns 5", Ablation(blocks={3, 7}, heads={(2, 1), (2, 10)}, ffns={5})),
        ("layers 1; attention 2", Ablation(blocks={1}, mixers={2})),
        (str(Ablation(blocks={1}, mixers={2}, heads={(0, 3)})), Ablation(blocks={1}, mixers={2}, heads={(0, 3)})),
    ],
)
def test_parts_are_named_as_tables_name_them(words: str, expected: Ablation) -> None:
    assert parts(words) == expected


@pytest.mark.parametrize("words", ["x", "blocks", "heads 3", "3-7", "experts 1", "blocks 1.2"])
def test_anything_else_is_refused(words: str) -> None:
    with pytest.raises(StrataError, match="names no parts: expected blocks as 3,7"):
        parts(words)


def test_text_with_and_without_a_block(strata: Strata, tiny_folder: Path) -> None:
    said = strata("generate", str(tiny_folder), "--without", "1", "--prompt", "a cat", "--max-tokens", "5", "--json")
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    model = load(tiny_folder, device="cpu")
    assert model.tokenizer is not None
    bos = [] if model.tokenizer.bos_id is None else [model.tokenizer.bos_id]
    ids = torch.tensor([bos + model.tokenizer.encode("a cat").ids])
    for row, ablation in zip(found, (Ablation(), Ablation(blocks={1})), strict=True):
        assert row["ablation"] == ablation.to_json()
        assert row["tokens"] == generate(model, ids, 5, ablation)[0].tolist()[: len(row["tokens"])]


def test_bad_input_is_one_line(strata: Strata, tiny_folder: Path) -> None:
    for words, says in (
        (("--without", "99"), "block 99 is out of range"),
        (("--max-tokens", "100000"), "asks for 100000 new ones"),
        (("--stop", ""), "a stop string is empty"),
        (("--temperature", "1", "--top-p", "0"), "top_p above 0"),
    ):
        said = strata("generate", str(tiny_folder), "--prompt", "a cat", *words)
        assert (said.returncode, said.stdout) == (2, "")
        assert says in said.stderr
        assert said.stderr.count("\n") == 1


def test_texts_behind_documents_are_those_of_one_prompt(strata: Strata, tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    """Of shards as of one run, and each text as the engine writes it alone."""
    words = (str(tiny_folder), "--corpus", str(prose), "--documents", "13", "--window", "8", "--max-tokens", "5", "--device", "cpu")
    one = strata("generate", *words, "--out", str(tmp_path / "one"), "--json")
    assert one.returncode == 0, one.stderr
    table = pd.DataFrame(json.loads(one.stdout))
    for index in (0, 1):
        assert strata("generate", *words, "--out", str(tmp_path / "two"), "--shard", f"{index}/2").returncode == 0
    merged = strata("merge", str(tmp_path / "two"))
    assert merged.returncode == 0, merged.stderr
    assert (tmp_path / "one" / "summary.csv").read_bytes() == (tmp_path / "two" / "summary.csv").read_bytes()
    model = load(tiny_folder, device="cpu")
    agreement = []
    for prompt in beginnings(model, Text(corpus=str(prose), documents=13, window=8), 5):
        dense, ablated = (generate(model, torch.tensor([prompt.tokens]), 5, a)[0].tolist() for a in (Ablation(), Ablation(blocks={1})))
        agreement.append(sum(a == b for a, b in zip(dense, ablated, strict=True)) / 5)
    row = table[(table["ablation"] == "blocks 1") & (table["metric"] == "agreement")].iloc[0]
    assert row["value"] == pytest.approx(sum(agreement) / 13)
    assert row["ci_low"] <= row["value"] <= row["ci_high"]
    script = strata("slurm", "--tasks", "2", "--", "generate", *words, "--out", str(tmp_path / "three"))
    assert script.returncode == 0
    assert "#SBATCH --array=0-1" in script.stdout


def test_a_dry_run_says_at_most(strata: Strata, tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    """Of texts that end nowhere it is what they take; nothing is written, and what the run refuses is refused."""
    words = (str(tiny_folder), "--corpus", str(prose), "--documents", "2", "--window", "8", "--max-tokens", "5", "--device", "cpu")
    found = json.loads(strata("generate", *words, "--weights", "streamed", "--dry-run", "--json").stdout)
    read = [len(p.tokens) for p in beginnings(load(tiny_folder, device="cpu"), Text(corpus=str(prose), documents=2, window=8), 5)]
    assert [found[name] for name in ("prompts", "prompt_tokens", "texts", "new_tokens", "passes")] == [2, sum(read), 8, 4 * 2 * 5, 5 + 2]
    said = strata("generate", *words, "--weights", "streamed", "--dry-run", "--out", str(tmp_path / "run"))
    assert "8 texts of at most 40 new tokens together" in said.stdout
    assert "weights of blocks are streamed: read at most 7 times, at most " in said.stdout
    assert "at most about " in said.stdout
    assert not (tmp_path / "run").exists()
    one = strata("generate", str(tiny_folder), "--prompt", "a cat", "--without", "1", "--max-tokens", "9", "--dry-run")
    assert "1 ablation and the unpruned model on the prompt, " in one.stdout
    assert "2 texts of at most 18 new tokens together" in one.stdout
    long = strata("generate", *words[:-3], "100000", "--dry-run")
    assert (long.returncode, "asks for 100000 new ones" in long.stderr) == (2, True), long


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give one of them"),
        (("--prompt", "a", "--out", "x"), "give one of them"),
        (("--prompt", "a", "--shard", "0/2"), "are for documents"),
        (("--json", "--shard", "0/2"), "give one of them"),
        (("--out", "x", "--kind", "blocks", "--without", "1"), "give one of them"),
    ],
)
def test_a_prompt_or_documents(strata: Strata, tiny_folder: Path, words: tuple[str, ...], says: str) -> None:
    said = strata("generate", str(tiny_folder), *words)
    assert (said.returncode, said.stdout) == (2, "")
    assert says in said.stderr
    assert said.stderr.count("\n") == 1
