"""The import names are our folders' names, and other distributions use them too: found before anything else is imported."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
OURS = {name: HERE / name for name in ("adapters", "analysis")} | {"strata": HERE / "strata.py"}


def require_own_packages() -> None:
    """Ends the program with exit code 2 and one line when one of our names would be imported from elsewhere.

    Imports nothing of ours: the error type itself is one of the modules that may be shadowed.
    """
    for name, place in OURS.items():
        found = find_spec(name)
        places = [Path(at).resolve() for at in (found and (found.submodule_search_locations or [found.origin or ""])) or ()]
        if places[:1] != [place] and (places or place.is_dir()):
            origin = places[0] if places else None
            print(
                f"strata: the package {name!r} comes from {origin}, not from {place}: uninstall the other one, take it off "
                f"PYTHONPATH, or use an environment of strata's own (`make report` in {HERE} makes one)",
                file=sys.stderr,
            )
            raise SystemExit(2)
