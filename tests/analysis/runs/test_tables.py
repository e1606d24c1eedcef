"""Tables as files: numbers stay numbers, and no text is a formula."""

import csv
import io

import pandas as pd

from analysis.display.format import as_csv
from analysis.runs.tables import TYPES, tidy


def test_text_that_a_spreadsheet_would_compute_begins_with_an_apostrophe() -> None:
    names = ["=1+1", "@SUM(A1)", "+1", "-2", "\tx", "\r=x", "plain", "a=b", "'quoted", ""]
    table = tidy([("blocks", i, name, -1.5 * i, -0.25) for i, name in enumerate(names)], ["kind", "block", "=task", "value", "ci_low"])
    written = as_csv(table)
    rows = list(csv.reader(io.StringIO(written)))
    assert [row[2] for row in rows[1:]] == ["'=1+1", "'@SUM(A1)", "'+1", "'-2", "\\tx", "\\r=x", "plain", "a=b", "'quoted", ""]
    assert rows[0] == ["kind", "block", "'=task", "value", "ci_low"]
    read = pd.read_csv(io.StringIO(written), dtype={name: type_ for name, type_ in TYPES.items() if name in table})
    assert read["value"].tolist() == table["value"].tolist()
    assert read["ci_low"].eq(-0.25).all()
    assert [row[1] for row in rows[1:]] == [str(i) for i in range(len(names))]


def test_a_table_without_such_text_is_written_as_pandas_writes_it() -> None:
    table = tidy([("blocks", 3, 1e-17, None), ("dense", None, -7.25, 0.1)], ["kind", "block", "value", "ci_low"])
    assert as_csv(table) == table.to_csv(index=False) == "kind,block,value,ci_low\nblocks,3,1e-17,\ndense,,-7.25,0.1\n"
