"""Files of rows in every kind, and what is read of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from analysis.data.documents import documents

TEXTS = [f'{i} documents, each with a comma, "quotes",\na second line and 第{i}章 天地玄黄。' for i in range(150)]


def table(texts: list[str] = TEXTS, column: str = "text") -> list[dict[str, object]]:
    return [{"n": i, column: text} for i, text in enumerate(texts)]


def write(path: Path, rows: list[dict]) -> Path:
    """A file of the kind that its name says; one of texts holds the last column, a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.name.lower().partition(".")[2]
    if kind in ("parquet", "pq"):
        parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=20, write_statistics=False)
    elif kind in ("csv", "tsv", "tsv.gz"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="," if kind == "csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif kind in ("txt", "md"):
        path.write_text("\n".join(str([*row.values()][-1]) for row in rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read(corpus: object) -> list[str]:
    return [document.text for document in documents(str(corpus))]
