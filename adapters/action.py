"""The smallest value of an ablation: one block's part of it."""

from __future__ import annotations

from typing import NamedTuple

EDITS = ("zero", "mean")  # what a part that is out leaves behind: nothing, or its mean over calibration text


class Action(NamedTuple):
    """What happens inside one block on one stream."""

    mixer: bool = True  # False: the mixer is out
    heads: frozenset[int] = frozenset()  # heads taken out of a mixer that runs
    ffn: bool = True  # False: the ffn is out
    experts: frozenset[int] = frozenset()  # experts taken out of an ffn that runs: the router does not see them
    edit: str = "zero"  # one of EDITS, zero where nothing is out

    @property
    def before_ffn(self) -> Action:
        """What of it happens in front of the ffn."""
        return self._replace(ffn=True, experts=frozenset()) if self.heads or not self.mixer else KEEP

    @property
    def adds_nothing(self) -> bool:
        """The stream leaves the block as it has entered."""
        return not (self.mixer or self.ffn) and self.edit == "zero"


KEEP = Action()
