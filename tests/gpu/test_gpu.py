"""`make gpu` in small: on the CPU, and on a pretended card; and what its record makes of README and docs."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import torch

from adapters.supported import GPU, KERNELS, NOT_RUN, SCAN_KERNELS, gpu_sentence, on_gpu, page, rows
from tests.gpu import __main__ as proof
from tests.gpu import kernels
from tests.gpu.parity import families_of
from tests.gpu.timing import collect
from tests.reference.families import FAMILIES, model_type
from tests.reference.second_device import second_device

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_proof_in_small(device: str, tmp_path: Path) -> None:
    with second_device() if device == "cuda" else nullcontext():
        proof.main(["--tiny", "--device", device, "--out", str(tmp_path)])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["name"] for row in found["parity"]] == ["llama", "gpt2", "rwkv-7"]
    assert all(row["passed"] for row in found["parity"])
    assert [(row["weights"], row["kind"]) for row in found["sweeps"]] == [
        (held, kind) for held in ("resident", "streamed") for kind in ("blocks", "heads")
    ]
    assert all(row["off"] < 1e-2 for row in found["sweeps"][2:])
    assert all(row["seconds"] > 0 and row["share_of_matmul"] > 0 for row in found["sweeps"])
    assert {row["version"] for row in found["rwkv"]} == {"6", "7"}
    assert found["families"] == {"llama": True, "gpt2": True}
    lines = (tmp_path / "gpu.md").read_text().splitlines()
    streamed = [line for line in lines if " | streamed | " in line]
    for row, line in zip(found["sweeps"][2:], streamed, strict=True):
        assert f" | – | {row['times_resident']:.2f} | {row['off']:.1e} | " in line
    assert sum(line.startswith("| ") for line in lines) == 3 * 2 + 3 + 4 + 4


@pytest.mark.parametrize("words", [["--tiny"], ["--device", "cpu"]])
def test_nothing_else_is_recorded(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with second_device(), pytest.raises(SystemExit):
        proof.main(words)
    assert "give --out" in capsys.readouterr().err


def test_time_that_is_up_leaves_parts_out(tmp_path: Path) -> None:
    proof.main(["--tiny", "--device", "cpu", "--out", str(tmp_path), "--seconds", "0"])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert (found["parity"], found["sweeps"], found["rwkv"], found["families"]) == ([], [], [], {})
    assert "# On a GPU" in (tmp_path / "gpu.md").read_text()


def test_time_that_is_up_ends_a_part_that_notes_its_errors() -> None:
    def endless() -> Iterator[str]:
        yield "found before"
        while True:
            with suppress(Exception):
                time.sleep(0.01)

    found, before = list[str](), signal.getsignal(signal.SIGALRM)
    collect(endless(), found, time.monotonic() + 0.5)
    assert found == ["found before"]
    assert signal.getsignal(signal.SIGALRM) is before


def test_an_error_is_what_the_table_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof.parity, "numbers", lambda model: 1 / 0 if "float32" in str(model.dtype) else {})
    proof.main(["--tiny", "--device", "cpu", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["families"] == {"llama": False, "gpt2": False}
    assert "no: ZeroDivisionError: division by zero" in (tmp_path / "gpu.md").read_text()


def test_a_family_ran_when_all_of_it_did() -> None:
    every = [{"name": name, "model_type": model_type(name), "passed": True, "kernels": False} for name in FAMILIES]
    assert set(families_of(every)) == {model_type(name) for name in FAMILIES}
    assert all(families_of(every).values())
    assert "rwkv" not in families_of([row for row in every if row["name"] != "rwkv-5.1"])
    assert families_of([row | {"passed": row["name"] != "rwkv-5.1"} for row in every])["rwkv"] is False
    by_fla = [{"name": "rwkv-7", "model_type": "rwkv", "passed": passed, "kernels": True} for passed in (True, False)]
    assert KERNELS not in families_of(every)
    assert families_of([*every, by_fla[0]])[KERNELS] is True
    assert families_of([*every, *by_fla])[KERNELS] is False
    scans = [{"name": name, "model_type": name, "passed": True, "kernels": True} for name in ("mamba", "mamba2")]
    found = families_of([*every, *by_fla, *scans])
    assert (found[KERNELS], found[SCAN_KERNELS]) == (False, True)
    assert SCAN_KERNELS not in families_of([*every, *by_fla])


def test_kernels_are_tried_where_their_package_is(monkeypatch: pytest.MonkeyPatch) -> None:
    card, names = torch.device("cuda"), ("mamba", "jamba", "rwkv-6", "rwkv-4", "llama")
    for packages, tried in (({}, []), ({"mamba-ssm": "2"}, ["mamba", "jamba"]), ({"flash-linear-attention": "1"}, ["rwkv-6"])):
        monkeypatch.setattr(kernels, "installed", lambda packages=packages: packages)
        assert [name for name in names if kernels.kernels(name, card)] == tried
        assert not any(kernels.kernels(name, torch.device("cpu")) for name in names)


def test_what_is_said_of_it(tmp_path: Path) -> None:
    assert {row.gpu for row in rows(gpu=tmp_path / "none.json")} == {NOT_RUN}
    assert gpu_sentence(tmp_path / "none.json") == f"Every family, and RWKV on fla kernels: {NOT_RUN} (`make gpu` does it)."
    path = tmp_path / "gpu.json"
    known = {row.model_type: True for row in rows()}
    path.write_text(json.dumps({"card": "NVIDIA X", "date": "2026-01-02", "families": known | {"opt": False}}))
    assert on_gpu(path)["llama"] == "run on NVIDIA X, 2026-01-02"
    assert gpu_sentence(path) == (
        f"Other families: run on NVIDIA X, 2026-01-02; opt: failed on NVIDIA X, 2026-01-02; fla kernels: {NOT_RUN}."
    )
    assert "| failed on NVIDIA X, 2026-01-02 |" in page(rows(gpu=path))


def test_readme_says_what_the_record_says() -> None:
    assert gpu_sentence() in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (ROOT / "docs" / "gpu.md").exists() == GPU.exists()
