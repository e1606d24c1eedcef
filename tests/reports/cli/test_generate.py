"""`strata generate` from outside: texts with and without parts, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adapters import Ablation, StrataError, load
from analysis.engine.decoding import generate
from reports.cli.generate import parts


def strata(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "reports.cli.main", "generate", *words], capture_output=True, text=True)


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


def test_text_with_and_without_a_block(tiny_folder: Path) -> None:
    said = strata(str(tiny_folder), "--without", "1", "--prompt", "a cat", "--max-tokens", "5", "--json")
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    model = load(tiny_folder, device="cpu")
    assert model.tokenizer is not None
    bos = [] if model.tokenizer.bos_id is None else [model.tokenizer.bos_id]
    ids = torch.tensor([bos + model.tokenizer.encode("a cat").ids])
    for row, ablation in zip(found, (Ablation(), Ablation(blocks={1})), strict=True):
        assert row["ablation"] == ablation.to_json()
        assert row["tokens"] == generate(model, ids, 5, ablation)[0].tolist()[: len(row["tokens"])]


def test_bad_input_is_one_line(tiny_folder: Path) -> None:
    for words, says in (
        (("--without", "99"), "block 99 is out of range"),
        (("--max-tokens", "100000"), "asks for 100000 new ones"),
        (("--stop", ""), "a stop string is empty"),
        (("--temperature", "1", "--top-p", "0"), "top_p above 0"),
    ):
        said = strata(str(tiny_folder), "--prompt", "a cat", *words)
        assert (said.returncode, said.stdout) == (2, "")
        assert says in said.stderr
        assert said.stderr.count("\n") == 1
