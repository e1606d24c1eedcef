"""What can be said about methods at one size: functions of losses per document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.display.format import listed
from analysis.display.sentences import not_known, verdicts
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Array, differs_from_zero

Losses = Mapping[str, Array]  # sums over documents (documents,), by method


def best(losses: Losses, tokens: Array) -> str:
    """Which method has the lowest loss over `tokens` (documents,), as a clause."""
    if len(losses) < 2:
        return f"only {' '.join(losses)} was measured" if losses else "no method was measured"
    (verdict,) = verdicts(tokens, losses)
    if not verdict.known:
        return not_known("which method is best", verdict.n_documents)
    return f"{verdict.leaders[0]} has the lowest loss{verdict.ending('lower than', '', 'that of every other method')}"


def against(name: str, losses: Losses, tokens: Array) -> str:
    """Where a method stands beside each other one, as a clause; false discoveries are held to 5 % among the pairs."""
    others = [other for other in losses if other != name]
    if name not in losses or not others:
        return f"there is no other method to compare {name} with"
    if len(losses[name]) < MIN_DOCUMENTS_FOR_CI:
        return not_known(f"whether {name} is better than the others", len(losses[name]))
    differences = np.array([losses[name] - losses[other] for other in others])
    side = np.sign(differences.sum(1)) * differs_from_zero(differences, tokens).significant
    verbs = {-1: "has a significantly lower loss than", 1: "has a significantly higher loss than", 0: "does not differ significantly from"}
    groups = {verb: [other for other, where in zip(others, side, strict=True) if where == at] for at, verb in verbs.items()}
    return f"{name} {', '.join(f'{verb} {listed(found)}' for verb, found in groups.items() if found)}"


def besides(missing: Sequence[str]) -> str:
    """What a clause about all others leaves out, to follow it; empty when nothing is."""
    return f" (not measured: {listed(missing)})" if missing else ""
