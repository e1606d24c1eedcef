"""What speaks against a result without proving it wrong: said once, where whoever asked will read it, and kept in the manifest."""

from __future__ import annotations

import sys
from functools import cache
from math import log

from adapters.specs import ModelSpec
from analysis.display.format import escape
from analysis.runs import files


def worse_than_guessing(spec: ModelSpec, nats: float) -> str:
    """The doubt about a dense model whose loss (nats per token) is above that of equal odds for all tokens; empty below.

    It has no number of the text, so that it is said once of a model, whatever is read.
    """
    guessing = log(spec.vocab_size)
    if nats <= guessing * (1 + 1e-6):  # equal odds, rounded
        return ""
    return (
        f"{spec.name} does worse than guessing among its {spec.vocab_size:,} tokens, which costs {guessing:.2f} nats per token: its "
        "tokenizer or its config.json is of another model, its weights are not trained, or the text is none that it can read"
    )


@cache
def say(doubt: str) -> None:
    """Once in a process: in a notebook as text, which a report shows too, else on stderr."""
    shell = sys.modules.get("IPython")  # not imported: only a notebook has one
    if doubt and shell and shell.get_ipython() is not None:
        from IPython.display import Markdown, display

        display(Markdown(f"**{escape(doubt)}**"))
    elif doubt:
        files.say(doubt)
