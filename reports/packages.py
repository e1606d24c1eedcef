"""The import names are our folders' names, and other distributions use them too: found before anything else is imported."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]


def require_own_packages() -> None:
    """Ends the program with exit code 2 and one line when `adapters` or `analysis` would be imported from elsewhere.

    Imports nothing of ours: the error type itself is one of the modules that may be shadowed.
    """
    for name in ("adapters", "analysis"):
        found = find_spec(name)
        folders = [Path(folder).resolve() for folder in (found and found.submodule_search_locations) or ()]
        if folders[:1] != [HERE / name]:
            origin = folders[0] if folders else found and found.origin
            print(
                f"strata: the package {name!r} comes from {origin}, not from {HERE / name}: uninstall the other one, take it off "
                f"PYTHONPATH, or use an environment of strata's own (`make report` in {HERE} makes one)",
                file=sys.stderr,
            )
            raise SystemExit(2)
