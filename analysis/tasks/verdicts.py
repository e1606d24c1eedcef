"""What a benchmark says in words: whether a model knows more than chance does, and without which parts it does not."""

from __future__ import annotations

import pandas as pd

from analysis.display.format import bounded, capital, count, number
from analysis.display.sentences import NOUNS, RATE, labels, not_known, share
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval


def against_chance(task: str, accuracy: Interval, chance: float, *, beats: bool, n_documents: int) -> str:
    """`accuracy` of the dense model; `chance`: of an even guess; `beats`: it is significantly higher."""
    found = (
        f"The accuracy of the unpruned model on {task} is {bounded(accuracy)} over {count(n_documents, 'question')}; "
        f"guessing gives {number(chance)}."
    )
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"{found} {capital(not_known('whether it is better than chance', n_documents))}."
    if beats:
        return f"{found} It is significantly better than chance."
    return (
        f"{found} It is not significantly better than chance, so changes of its accuracy mean nothing; "
        "the loss of the correct option still shows the effect of removals."
    )


def down_to_chance(parts: pd.DataFrame, kind: str) -> str:
    """Of a dense model that is better than chance. `parts`: block, head and `significant`, which says that accuracy still beats chance."""
    lost = parts[~parts["significant"]]
    if lost.empty:
        return f"So it is without any one of the {len(parts)} {kind} {RATE}."
    without = f"Without any one of {share(len(lost), len(parts), kind)} it no longer is"
    return f"{without} {RATE}: {', '.join(labels(lost, kind))}."


def costs(parts: pd.DataFrame, kind: str, *, n_documents: int) -> str:
    """`parts`: block, head, value (rise of the loss), ci_low, ci_high, and `significant` from the dense model."""
    noun, most = NOUNS[kind], parts.iloc[int(parts["value"].argmax())]
    rise = bounded(Interval(*most[["value", "ci_low", "ci_high"]]))
    reach = f"the largest rise is {rise} nats, without {noun} {labels(parts.loc[[most.name]], kind)[0]}"
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"{capital(not_known(f'whether removing a single {noun} changes the loss', n_documents))}; {reach}."
    some = share(int(parts["significant"].sum()), len(parts), kind)
    return f"Removing a single {noun} changes the loss significantly for {some} {RATE}; {reach}."


def cut(n: int, requests: int) -> str:
    are = "is" if n == 1 else "are"
    return f"{n:,} of {count(requests, 'prompt')} {are} longer than the model's context and truncated on the left, as by lm_eval."
