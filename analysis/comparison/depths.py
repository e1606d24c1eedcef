"""One kind of architecture at several depths and equal size: are deeper models more redundant?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.comparison.redundancy import SUMMARIES, UNITS
from analysis.comparison.results import Comparison
from analysis.display.style import architecture
from analysis.stats.seeds import over_seeds
from analysis.zoo.groups import Group, kind_of

SHOWN = ("removable", "effective", "area", "against")
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
