"""What the results of all studies of one model have in common."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import pandas as pd

from adapters.base import BlockModel
from analysis.display.format import INTERVALS, count, escape, parameters
from analysis.display.sentences import intervals


class Text(Protocol):
    """Of which documents of a corpus are read, as `analysis.data.batches.Text`."""

    @property
    def corpus(self) -> str: ...
    @property
    def window(self) -> int: ...


def read(text: Text, split: str, n_documents: int, tokens: int | None = None) -> str:
    """What was read, as a table says it: "texts, held-out: 16 documents, one window of 128 tokens each, 2,032 tokens scored"."""
    scored = "" if tokens is None else f", {tokens:,} tokens scored"
    return f"{text.corpus}, {split}: {count(n_documents, 'document')}, one window of {text.window} tokens each{scored}"


class Result:
    """Results of one model on some documents."""

    model: BlockModel

    @property
    def n_documents(self) -> int:
        """That intervals are over."""
        raise NotImplementedError

    @property
    def measured(self) -> dict[str, str]:
        """What was measured and on what, beside the model and the intervals."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The model's name as Markdown."""
        return escape(self.model.spec.name)

    @property
    def n_blocks(self) -> int:
        return len(self.model.spec.blocks)

    @property
    def described(self) -> str:
        spec = self.model.spec
        return f"{spec.name}, {spec.variant}, {count(self.n_blocks, 'block')}, {parameters(spec)}"

    @cached_property
    def facts(self) -> pd.DataFrame:
        """The first table of a notebook: what was measured and on what, as two columns of text."""
        facts = {"Model": self.described, **self.measured}
        facts.setdefault("Intervals", INTERVALS)
        return pd.DataFrame({"": facts.keys(), "measured": facts.values()})

    @property
    def bars(self) -> str:
        """What the bars of a figure are; a sentence for captions."""
        return intervals(self.n_documents, "bars")

    @property
    def bands(self) -> str:
        return intervals(self.n_documents, "bands")
