"""Folders that are finished or not there: what killed processes leave goes with the next command, what others make stays."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from adapters.checkpoints.folders import OURS, as_umask_says, finished_or_nothing, remove_abandoned, unfinished

HOLD = """
import sys, time
from pathlib import Path
from adapters.checkpoints.folders import finished_or_nothing
with finished_or_nothing(Path(sys.argv[1]), 0) as folder:
    (folder / "model.safetensors").write_bytes(b"0" * 100)
    print("there", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """A process that writes a folder, and is in the middle of it."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "theirs"], cwd=Path(__file__).parents[3], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_a_killed_process_left_goes_and_what_a_living_one_makes_stays(tmp_path: Path, holder: subprocess.Popen) -> None:
    others = tmp_path / ".strata-another-machine.abcdefgh"  # on a disk that machines share
    (others / "theirs").mkdir(parents=True)
    with finished_or_nothing(tmp_path / "first", 0):
        assert len(list(tmp_path.glob(f"{OURS}*/theirs/model.safetensors"))) == 1
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert len(list(tmp_path.glob(f"{OURS}*/theirs/model.safetensors"))) == 1
    with finished_or_nothing(tmp_path / "second", 0) as folder:
        assert list(tmp_path.glob(f"{OURS}*")) == [folder.parent]
    assert sorted(path.name for path in tmp_path.iterdir()) == [others.name, "first", "second"]


def test_folders_of_one_process_leave_each_other_alone(tmp_path: Path) -> None:
    with unfinished(tmp_path) as first:
        (first / "kept").touch()
        with unfinished(tmp_path) as second:
            assert (first / "kept").is_file()
            assert first != second
        remove_abandoned(tmp_path)
        assert (first / "kept").is_file()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_not_even_locked_goes_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / f"{OURS}abcdefgh").mkdir()
    (tmp_path / ".strata-notes").mkdir()
    (tmp_path / f"{OURS}link").symlink_to(tmp_path / ".strata-notes")
    (tmp_path / ".strata-notes" / "thesis.tex").touch()
    remove_abandoned(tmp_path)
    assert not (tmp_path / f"{OURS}abcdefgh").exists()
    assert [path.name for path in (tmp_path / ".strata-notes").iterdir()] == ["thesis.tex"]
    remove_abandoned(tmp_path / "nowhere")


def test_names_say_which_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OURS.count(".") == 2, "only the first and the last character: a name of a machine cannot begin another's"
    assert OURS.removeprefix(".strata-").removesuffix(".").replace("-", "") == "".join(c for c in platform.node() if c.isalnum())


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_says(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with finished_or_nothing(tmp_path / "out", 0) as folder:
            save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
            (folder / "config.json").touch()
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {
        "model.safetensors": mode,
        "config.json": mode,
    }
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~mask


def test_modes_inside_folders(tmp_path: Path) -> None:
    (tmp_path / "out" / "inside").mkdir(parents=True)
    save_file({"a": torch.zeros(1)}, tmp_path / "out" / "inside" / "model.safetensors")
    as_umask_says(tmp_path / "out")
    assert (tmp_path / "out" / "inside" / "model.safetensors").stat().st_mode & 0o777 == (tmp_path / "out").stat().st_mode & 0o666
