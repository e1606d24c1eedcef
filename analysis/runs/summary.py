"""summary.csv: the rows of every study that a run has answered."""

from __future__ import annotations

import csv
import io


def merged(old: str, new: str) -> str:
    """Two tables as CSV as one: of rows that agree in all columns before `value`, that of more documents, or else the new one.

    The new table, when their columns differ.
    """
    (head, *rows), (other, *more) = (list(csv.reader(io.StringIO(text))) for text in (old, new))
    if head != other:
        return new
    n, end = head.index("n_documents"), head.index("value")
    found = {tuple(row[:end]): row for row in rows}
    for row in more:
        known = found.get(tuple(row[:end]))
        if known is None or int(row[n]) >= int(known[n]):
            found[tuple(row[:end])] = row
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *found.values()])
    return text.getvalue()
