"""Which models a checkpoint was pruned from, nearest first, and which of their blocks it still has: `ancestors` of its strata.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

FILE = "strata.json"


class Ancestor(NamedTuple):
    """A model that another was pruned from."""

    name: str
    hash: str  # of its weights, as in ModelSpec
    blocks: int  # that it has
    kept: tuple[int, ...]  # the number there of each block of the pruned one
    cut: str = ""  # what else is gone, as "heads 2.1 zero", in the numbers of each step


def read_ancestors(folder: Path, source_hash: str, n_blocks: int) -> tuple[Ancestor, ...]:
    """Of the weights of this hash in `folder`; none where its strata.json is missing, of other weights or of others' making."""
    try:
        record = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if record["written"]["hash"] != source_hash:
            return ()
        found = tuple(_ancestor(one) for one in record.get("ancestors") or [_parent(record)])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()
    fits = all(len(one.kept) == n_blocks and set(one.kept) <= set(range(one.blocks)) for one in found)
    return found if fits else ()


def ancestors_of(
    name: str, source_hash: str, n_blocks: int, before: Sequence[Ancestor], kept: Sequence[int], cut: str = ""
) -> tuple[Ancestor, ...]:
    """Those of a model that is made of the blocks `kept` of this one, which was pruned from those `before`, and `cut` besides."""
    own = Ancestor(name, source_hash, n_blocks, tuple(range(n_blocks)))
    return tuple(
        one._replace(kept=tuple(one.kept[i] for i in kept), cut=", then ".join(filter(None, (one.cut, cut)))) for one in (own, *before)
    )


def _ancestor(data: dict[str, Any]) -> Ancestor:
    return Ancestor(
        str(data["name"]), str(data["hash"]), int(data["blocks"]), tuple(int(i) for i in data["kept"]), str(data.get("cut", ""))
    )


def _parent(record: dict[str, Any]) -> dict[str, Any]:
    """Of files that name no ancestors beside it."""
    source, blocks = record["source"], record["blocks"]
    return {"name": source["name"], "hash": source["hash"], "blocks": blocks["dense"], "kept": blocks["kept"]}
