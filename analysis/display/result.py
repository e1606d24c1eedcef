"""What the results of all studies of one model have in common."""

from __future__ import annotations

from adapters.base import BlockModel
from analysis.display.format import escape


class Result:
    """Results of one model."""

    model: BlockModel

    @property
    def name(self) -> str:
        """The model's name as Markdown."""
        return escape(self.model.spec.name)

    @property
    def n_blocks(self) -> int:
        return len(self.model.spec.blocks)
