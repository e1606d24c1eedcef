"""The smallest value of an ablation: one block's part of it."""

from __future__ import annotations

from typing import NamedTuple


class Action(NamedTuple):
    """What happens inside one block on one stream."""

    mixer: bool = True  # False: the mixer adds nothing
    heads: frozenset[int] = frozenset()  # heads taken out of a mixer that runs
    ffn: bool = True  # False: the ffn adds nothing


KEEP = Action()
