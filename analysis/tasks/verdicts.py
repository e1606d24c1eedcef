"""What a benchmark says in words: whether a model knows more than chance does, and without which parts it does not."""

from __future__ import annotations

import pandas as pd

from analysis.display.format import bounded, number
from analysis.display.sentences import NOUNS, too_few
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval

RATE = "(false discovery rate 5\u00a0%)"


def against_chance(task: str, accuracy: Interval, chance: float, *, beats: bool, n_documents: int) -> str:
    """`accuracy` of the dense model; `chance`: of an even guess; `beats`: it is higher, and can be told from it."""
    found = f"The dense model gets {bounded(accuracy)} of {n_documents} questions of {task} right, a guess {number(chance)}."
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"{found} Whether it knows more than chance is open: {too_few(n_documents)}."
    if beats:
        return f"{found} It is better than chance."
    return (
        f"{found} It cannot be told from chance, so what removals do to its accuracy is no finding, up or down; "
        "the loss of the right option still says how much they change."
    )


def down_to_chance(parts: pd.DataFrame, kind: str) -> str:
    """Of a dense model that is better than chance. `parts`: block, head and `significant`, which says that accuracy still beats chance."""
    lost = parts[~parts["significant"]]
    if lost.empty:
        return f"So it is without any one of the {len(parts)} {kind} {RATE}."
    return f"Without {_share(len(lost), len(parts), kind)} accuracy can no longer be told from chance {RATE}: {_labels(lost, kind)}."


def costs(parts: pd.DataFrame, kind: str, *, n_documents: int) -> str:
    """`parts`: block, head, value (rise of the loss), ci_low, ci_high, and `significant` from the dense model."""
    noun, most = NOUNS[kind], parts.iloc[int(parts["value"].argmax())]
    reach = f"the largest rise is {bounded(Interval(*most[['value', 'ci_low', 'ci_high']]))} nats, without {noun} {_label(most, kind)}"
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"What removals cost is open: {too_few(n_documents)}; {reach}."
    significant = parts[parts["significant"]]
    if significant.empty:
        return f"The loss cannot be told from the dense model's without any {noun} {RATE}; {reach}."
    return f"The loss can be told from the dense model's without {_share(len(significant), len(parts), kind)} {RATE}; {reach}."


def cut(n: int, requests: int) -> str:
    return f"{n:,} of {requests:,} prompts are longer than the model's context and were cut on the left, as lm_eval does."


def _share(some: int, every: int, kind: str) -> str:
    return f"{'each' if some == every else some} of the {every} {kind}"


def _labels(parts: pd.DataFrame, kind: str) -> str:
    """A set is named in full."""
    return ", ".join(_label(row, kind) for _, row in parts.iterrows())


def _label(part: pd.Series, kind: str) -> str:
    return f"{part['block']}.{part['head']}" if kind == "heads" else str(part["block"])
