"""summary.csv: the rows of every study that a run has answered."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from scipy import stats

from analysis.stats.intervals import RATE

EXPERT = "expert"  # a column


def merged(old: str, new: str) -> str:
    """Two tables as CSV as one: of rows that agree in all columns before `value`, that of more documents, or else the new one.

    The new table, when their columns differ, and its order, when the old one has no other rows. What is adjusted for a family of
    tests is so for all that the table then holds.
    """
    (head, *rows), (other, *more) = (list(csv.reader(io.StringIO(text))) for text in (old, new))
    if EXPERT in other and head == [name for name in other if name != EXPERT]:  # written before there were any
        at = other.index(EXPERT)
        head, rows = other, [[*row[:at], "", *row[at:]] for row in rows]
    if head != other:
        return new
    n, end = head.index("n_documents"), head.index("value")
    found = {tuple(row[:end]): row for row in rows}
    for row in more:
        known = found.get(tuple(row[:end]))
        if known is None or int(row[n]) >= int(known[n]):
            found[tuple(row[:end])] = row
    names = [tuple(row[:end]) for row in more]
    if found.keys() == set(names):
        found = {name: found[name] for name in names}
    if "ablation" in head:
        _adjust(head, list(found.values()))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *found.values()])
    return text.getvalue()


def _adjust(head: Sequence[str], rows: Sequence[list[str]]) -> None:
    """`p_adjusted` and `significant` again, from the p-values of each model, kind, edit and dataset: Benjamini and Hochberg (1995)."""
    model, kind, ablation, dataset, metric, value = map(head.index, ("model", "kind", "ablation", "dataset", "metric", "value"))
    families: dict[tuple, dict[str, list[str]]] = {}
    for row in rows:
        family = row[model], row[kind], row[ablation].endswith("(mean)"), row[dataset]
        if row[metric] in ("p_value", "p_adjusted", "significant"):
            families.setdefault((*family, row[metric]), {})[row[ablation]] = row
    for family, tests in families.items():
        if family[-1] != "p_value":
            continue
        adjusted = stats.false_discovery_control([float(row[value]) for row in tests.values()], method="bh")
        for name, p in zip(tests, adjusted, strict=True):
            for other, found in (("p_adjusted", float(p)), ("significant", float(p <= RATE))):
                if name in (known := families.get((*family[:-1], other), {})):
                    known[name][value] = repr(found)
