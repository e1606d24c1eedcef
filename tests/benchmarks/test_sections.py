"""Every section of the benchmarks runs on a tiny model; its figures mean nothing there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from adapters import load
from tests.benchmarks import control, generation, importance, removal, scaling, streaming, sweeps, tasks
from tests.reference.models import save_reader
from tests.shared_data import shared


def section(module: object, folder: Path, **options: object) -> str:
    save_reader(folder, num_hidden_layers=removal.ROUNDS + 2, max_position_embeddings=256)
    foreign = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(256, (32, 12), generator=torch.Generator().manual_seed(0))
    return module.section(load(folder, device="cpu", dtype="float32"), foreign, ids, **options)  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", [sweeps, importance, removal])
def test_sections(module: object, tmp_path: Path) -> None:
    found = section(module, tmp_path)
    assert found.strip().startswith(f"## {module.TITLE}")  # type: ignore[attr-defined]
    assert "nan" not in found


def test_section_on_streamed_weights(tmp_path: Path) -> None:
    head, _, *lines = (line for line in section(streaming, tmp_path).splitlines() if line.startswith("|"))
    rows = [dict(zip(*([cell.strip() for cell in line.split("|")] for line in (head, each)), strict=True)) for each in lines]
    assert [int(row["documents"]) for row in rows] == [*streaming.BATCHES]
    assert all(float(row["streamed / resident"]) > 0 for row in rows)
    assert all(float(row["largest difference of sums"]) <= 1e-5 * float(row["largest sum"]) for row in rows)


def test_section_on_control_variates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "GRADIENTS", 60)
    found = section(control, tmp_path, documents=16, others=())
    assert "heads (" in found
    assert " of " in found.rpartition("hold the plain value")[2]


@pytest.mark.long
def test_section_on_scaling(tmp_path: Path) -> None:
    assert "| two workers on one sweep " in section(scaling, tmp_path, documents=4)


@pytest.mark.long
def test_section_on_tasks(tmp_path: Path) -> None:
    shared("bench/piqa")
    assert "| PIQA, 2 questions" in section(tasks, tmp_path, limit=2)


@pytest.mark.long
def test_section_on_generation(tmp_path: Path) -> None:
    shared("bench/gsm8k")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<s>"}')
    found = section(generation, tmp_path, limit=2)
    assert "| 2, gsm8k_cot, its eight examples" in found
    assert "times the matrix products of the blocks alone" in " ".join(found.split())
