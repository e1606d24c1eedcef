"""One kind of architecture at several depths and equal size: are deeper models more redundant?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.comparison.claims import CLAIMED
from analysis.comparison.redundancy import SUMMARIES, UNITS
from analysis.comparison.results import Comparison
from analysis.display.format import escape, listed, number
from analysis.display.style import architecture
from analysis.stats.seeds import ENOUGH, over_seeds
from analysis.zoo.groups import Group, kind_of

GO = "removable"
SHOWN = (GO, "effective", "area", "against")
SAID = {GO: "{} blocks can go", "effective": "the loss of single removals is spread over {} blocks"}
FIGURE = {name: SUMMARIES[name].title for name in ("removable", "effective", "area")}


def of_depths(study: Comparison) -> dict[str, list[Group]]:
    """Groups of trainings by their kind, those of the fewest blocks first, of kinds that were trained at several depths."""
    found: dict[str, list[Group]] = {}
    for group in study.of.groups:
        if group.facts and not group.first["equals"]:
            found.setdefault(kind_of(group.first["architecture"]), []).append(group)
    return {kind: sorted(groups, key=study.blocks) for kind, groups in found.items() if len(groups) > 1}


def table(study: Comparison) -> pd.DataFrame:
    """One line a depth of each kind; empty where no kind has several."""
    rows = []
    for kind, groups in of_depths(study).items():
        for group in groups:
            cells = {
                SUMMARIES[name].short: UNITS[SUMMARIES[name].unit].amount(over_seeds(study.values(group, name)), study.spec(group))
                for name in SHOWN
                if name in study.has(group)
            }
            rows.append({"architecture": kind, "blocks": study.blocks(group), "seeds": len(group.members), **cells})
    return pd.DataFrame(rows).fillna("")


def conclusion(study: Comparison) -> str:
    """A Markdown list, an item for each kind: how many blocks can go, over how many the loss is spread, and whether depth changes that."""
    return "\n".join(f"- {_sentence(study, kind, groups)}" for kind, groups in of_depths(study).items())


def _sentence(study: Comparison, kind: str, groups: Sequence[Group]) -> str:
    """ "Llama of 6, 12 and 24 blocks: 2.10, 4.30 and 9.80 blocks can go, 35, 36 and 41 % of them: the share ...; the loss ..."."""
    blocks, names = [study.blocks(group) for group in groups], (groups[0].name, groups[-1].name)
    said, claims = [], []
    for name, words in SAID.items():
        shares = [float(np.mean(study.values(group, name))) for group in groups]
        if not np.isfinite(shares).all():
            return f"{escape(kind)}: not all depths are better than a byte unigram."
        found = listed(number(share * n) for share, n in zip(shares, blocks, strict=True))
        claims.append(study.claims.get((*names, name)) or study.claims[*names[::-1], name])
        way = f"no difference is shown between {blocks[0]} and {blocks[-1]} blocks ({claims[-1].holds.value})"
        if claims[-1].holds in CLAIMED:
            more = "larger" if claims[-1].sides[0].name == escape(names[-1]) else "smaller"
            way = f"the share of {blocks[-1]} blocks is significantly {more} than that of {blocks[0]}"
        said.append(f"{words.format(found)}, {listed(f'{100 * share:.0f}' for share in shares)}\u00a0% of them: {way}")
    enough = all(claim.of_architectures for claim in claims)
    models = "" if enough else f" That is said of these models: {ENOUGH} seeds of each depth, trained alike, would be needed."
    return f"{escape(kind)} of {listed(blocks)} blocks: {'; '.join(said)}.{models}"


def rows(study: Comparison) -> pd.DataFrame:
    """Of a figure: model, group, architecture, blocks, measure, value and its interval over documents."""
    found = []
    for kind, groups in of_depths(study).items():
        for group in groups:
            spec = study.spec(group)
            for name in FIGURE:
                of = study.mean(group, name).interval.within(0, 1)
                if np.isfinite(of.value):
                    found.append((kind, kind, architecture(spec.family), len(spec.blocks), name, *of))
    columns = ["model", "group", "architecture", "blocks", "measure", "value", "ci_low", "ci_high"]
    return pd.DataFrame(found, columns=columns).astype({"ci_low": float, "ci_high": float})
