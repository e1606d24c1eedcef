"""What tests everywhere need. Tiny models run ten times slower on several threads than on one when the cores are busy."""

import pydoc_data.topics
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adapters.catalogue import PACKAGES
from adapters.errors import StrataError
from tests import record
from tests.reference.command_line import Done, Strata

torch.set_num_threads(1)


def pytest_configure() -> None:
    """A shell that starts us in the background has Ctrl-C ignored, by us and by all that tests start and stop."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="write adapters/supported.json and docs/models.md from what passes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.record and (config.option.markexpr or config.option.keyword):
        raise pytest.UsageError("--record takes all tests: add -m '', and no -k")
    for item in items:
        record.note(item)


SHOWN: list[record.Shown] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    SHOWN.extend(record.of_report(report))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.option.record and not hasattr(session.config, "workerinput"):
        record.write(SHOWN)


@pytest.fixture(scope="session")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of documents that every Python has."""
    path = tmp_path_factory.mktemp("text") / "topics.txt"
    path.write_text("\n\n".join(text for _, text in sorted(pydoc_data.topics.topics.items())), encoding="utf-8")
    return path


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, on a machine that has the offline texts."""
    try:
        PACKAGES["texts"].folder("texts")
    except StrataError as error:
        pytest.skip(f"the offline texts are not there: {error}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def strata(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Strata:
    from reports.cli import main as cli

    def run(*words: object, **environment: str) -> Done:
        capfd.readouterr()
        code = 0
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["strata", *map(str, words)])
            for name, value in environment.items():
                patch.setenv(name, value)
            try:
                cli.main()
            except SystemExit as stop:
                code = int(stop.code or 0)
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture
def small_disk(tmp_path: Path):
    """A disk of 64 KB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mounted)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"cannot mount a small disk: {error}")
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)
