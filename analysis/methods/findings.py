"""What can be said about methods at one size: functions of losses per document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.display.format import listed
from analysis.display.sentences import too_few
from analysis.pruning.findings import winners
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Array, differs_from_zero

Losses = Mapping[str, Array]  # sums over documents (documents,), by method


def best(losses: Losses, tokens: Array) -> str:
    """Which method has the lowest loss over `tokens` (documents,), as a clause."""
    if len(losses) < 2:
        return f"only {' '.join(losses)} was measured" if losses else "no method was measured"
    documents = len(next(iter(losses.values())))
    if documents < MIN_DOCUMENTS_FOR_CI:
        return f"which method is best is open: {too_few(documents)}"
    (first,) = winners(tokens, losses)
    if len(first) == 1:
        return f"{first[0]} has the lowest loss, below every other method"
    lowest = min(first, key=lambda name: losses[name].sum())
    others = [name for name in first if name != lowest]
    return f"no single method is best: the lowest loss, of {lowest}, cannot be told from that of {listed(others)}"


def against(name: str, losses: Losses, tokens: Array) -> str:
    """Where a method stands beside each other one, as a clause; false discoveries are held to 5 % among the pairs."""
    others = [other for other in losses if other != name]
    if name not in losses or not others:
        return f"{name} is beside no other method"
    documents = len(losses[name])
    if documents < MIN_DOCUMENTS_FOR_CI:
        return f"whether {name} beats the others is open: {too_few(documents)}"
    differences = np.array([losses[name] - losses[other] for other in others])
    significant = dict(zip(others, zip(differs_from_zero(differences, tokens), differences.sum(1), strict=True), strict=True))
    groups = {
        "has a lower loss than": [o for o, (yes, sum_) in significant.items() if yes and sum_ < 0],
        "has a higher loss than": [o for o, (yes, sum_) in significant.items() if yes and sum_ > 0],
        "cannot be told from": [o for o, (yes, _) in significant.items() if not yes],
    }
    return f"{name} {', '.join(f'{verb} {listed(found)}' for verb, found in groups.items() if found)}"


def besides(missing: Sequence[str]) -> str:
    """What a clause about all others leaves out, to stand behind it; empty when nothing is."""
    return f" (not measured: {listed(missing)})" if missing else ""
