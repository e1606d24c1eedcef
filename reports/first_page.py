"""The first page of a report: what was asked, the answer, how sure it is; and the words that the rest needs."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pandas as pd
from pydantic import TypeAdapter

from analysis.comparison.verdicts import Contrast
from analysis.display import hover, show
from analysis.display.format import as_csv, count, escape, listed
from analysis.redundancy import plots, sentences
from analysis.redundancy.findings import Findings, merged
from analysis.removal.explored import Explored
from analysis.removal.explored import merged as every_model
from analysis.stats.seeds import ENOUGH
from reports.pieces import Front

KINDS = {kind.__name__: TypeAdapter(kind) for kind in (Findings, Contrast, Explored)}
PAPER = (
    "The paper is *ShortGPT: Layers in Large Language Models are More Redundant Than You Expect* (Men et al., 2024), "
    "[arXiv:2403.03853](https://arxiv.org/abs/2403.03853); its figures and tables are numbered as in its first version."
)
FEW_SEEDS = f"Of architectures in general fewer than {ENOUGH} seeds of each say nothing."
ZOO = "The zoo is Strata's own: small models of several architectures, trained alike on the same text, most with several seeds."
WORDS = {
    "block": "one residual layer of a model, counted from 0: a mixer and an ffn; a removed one passes its input on unchanged",
    "mixer, ffn": "the half of a block that mixes tokens (attention; time-mix in an RWKV; a state space), and the half that does not (MLP, "
    "channel-mix); blocks of Mamba are a mixer alone",
    "rise in loss": "what a removal adds to the mean negative log-likelihood of a token, in nats, on text that chose nothing",
    "gain over a byte unigram": "bits per byte that a model saves against a code that knows only how often each byte occurs",
    "effective blocks": "over how many blocks the loss of single removals is spread: 1 when one holds all of it, n when n are alike "
    "(exponential of the entropy of their shares)",
    "Block Influence": "1 minus the mean cosine between what enters a block and what leaves it (equation 2 of the paper)",
    "Kendall's tau": "agreement of two orders: 1 the same, 0 chance, −1 the reverse",
    "significant": "a paired test over documents, false discoveries held to 5\u00a0%; intervals are 95\u00a0%",
}


class Found(NamedTuple):
    """What the notebooks of a report hand to its first page."""

    models: list[Findings]
    contrasts: list[Contrast]
    explored: Sequence[Explored] = ()

    @classmethod
    def of(cls, notebooks: Sequence[Path]) -> Found:
        """From executed notebooks. Raises ValueError on anything that `show.found` does not write."""
        things: dict[str, list[Any]] = {name: [] for name in KINDS}
        for path in notebooks:
            for cell in nbformat.read(path, as_version=4).cells:
                for output in cell.get("outputs", ()):
                    if said := output.get("metadata", {}).get("strata", {}).get("findings"):
                        for kind, content in json.loads(said):
                            things[kind].append(KINDS[kind].validate_json(json.dumps(content), strict=True))
        return cls(merged(things["Findings"]), things["Contrast"], tuple(every_model(things["Explored"])))


def front(asked: str, found: Found) -> Front:
    """`asked`: what was asked of which models on what text (Markdown)."""
    said = [f"{asked} {PAPER.split(';')[0]}." if asked else "", *_bullets(found)]
    words = "\n\n".join([f"**{name}**: {text}." for name, text in WORDS.items()])
    return Front(
        "\n\n".join(filter(None, said)),
        caption=_caption(found.models),
        below=_table(found.models),
        below_caption="The answers, model by model." if found.models else "",
        csv=as_csv(table(found.models)) if found.models else "",
        words=f"{words}\n\n{PAPER} {ZOO}",
        **_picture(found.models),
    )


def _bullets(found: Found) -> list[str]:
    """Three to five plain sentences."""
    said = sentences.answers(found.models) if found.models else []
    said += between_architectures(found)
    if found.models or found.contrasts:
        said.append(_sure(found))
    return ["\n".join(f"- {sentence}" for sentence in said if sentence)] if said else []


def between_architectures(found: Found) -> list[str]:
    """A sentence for each two architectures: from the comparison on the same bytes where there is one, else from two models.

    Of several pairs that of most seeds speaks; those trained alike, with enough of them to speak of architectures, come first.
    """
    said = []
    for kinds in combinations(plots.ARCHITECTURES, 2):
        pairs = [c for c in found.contrasts if set(kinds) == set(c.architectures)]
        a, b = (next((f for f in found.models if f.architecture == kind), None) for kind in kinds)
        if pairs:
            best = max(
                pairs, key=lambda pair: (pair.enough_seeds, sum(map(len, pair.effective)), not any("early" in n for n in pair.names))
            )
            of = " (Of these models, not of their architectures.)" if not best.enough_seeds and _enough(found) else ""
            said.append(f"{' or '.join(kinds)}: {best.sentence}{of}")
        elif a and b:
            said.append(f"{' or '.join(kinds)}: {sentences.effective(a, b)}")
    return said


def _sure(found: Found) -> str:
    """How sure all that is, said once."""
    read = listed(
        dict.fromkeys(f"{count(f.n_documents, 'document')} of {f.window} tokens ({', '.join(_of(found, f))})" for f in found.models)
    )
    on = f" Single models were read on {read}." if read else ""
    return f"How sure: intervals and tests are over documents of one kind of text, without retraining after a removal.{on} " + (
        "Architectures are those of the zoo, as they were trained here." if _enough(found) else FEW_SEEDS
    )


def _enough(found: Found) -> bool:
    """Are there seeds to speak of architectures?"""
    return any(contrast.enough_seeds for contrast in found.contrasts)


def _of(found: Found, like: Findings) -> list[str]:
    return [escape(f.model) for f in found.models if (f.n_documents, f.window) == (like.n_documents, like.window)]


def _picture(models: Sequence[Findings]) -> dict[str, Any]:
    """The figure and what it shows, as Front has them."""
    if not models:
        return {}
    show.setup()
    svg, drawn = io.StringIO(), plots.answers(models)
    drawn.savefig(svg, format="svg", metadata={"Date": None})
    return {"picture": svg.getvalue(), "alt": hover.seen(drawn), "points": tuple(hover.pointed(drawn))}


def _caption(models: Sequence[Findings]) -> str:
    at = next((said for f in models if (said := plots.at_tenth(f))), "10 %")
    return (
        f"The answers, with 95\u00a0% intervals: blocks that can go together for {sentences.GAIN}; the rise in loss (nats per token) where "
        f"removed blocks or heads save {at} of the block parameters; the share of effective blocks; Block Influence against that rise."
    )


def table(models: Sequence[Findings]) -> pd.DataFrame:
    """One line a model."""
    rows = [(f.model, sentences.removable_cell(f), sentences.depth_or_width_cell(f), sentences.influence_cell(f)) for f in models]
    return pd.DataFrame(rows, columns=["model", "blocks that can go for 10 %", "depth or width cheaper", "does Block Influence know"])


def _table(models: Sequence[Findings]) -> str:
    if not models:
        return ""
    rows = table(models)
    lines = ["| " + " | ".join(map(str, rows)) + " |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *("| " + " | ".join(map(escape, row)) + " |" for row in rows.itertuples(index=False))])
