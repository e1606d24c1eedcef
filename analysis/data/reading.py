"""What was read of a corpus: files, rows, documents, and what was passed over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adapters.errors import visible
from analysis.data.folders import Selection, some


@dataclass
class Reading:
    """Counted while a corpus is read; to the end, or as far as documents are taken."""

    corpus: str
    selection: Selection
    column: str | None = None
    rows: int = 0  # of files of text: files
    empty: int = 0  # of these, without text
    texts: int = 0  # that rows hold: each its own, or several one that runs on
    pieces: int = 0  # that these were cut into
    piece: int = 0  # about how many characters each has
    documents: int = 0  # distinct ones of them
    repeated: int = 0  # that were read before, and are passed over
    split: str | None = None  # None: all
    in_split: int = 0  # of the documents

    @property
    def kind(self) -> str:
        return self.selection.kind

    def to_json(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("rows", "empty", "documents", "repeated", "split", "in_split")}
        files = [str(file) for file in self.selection.files]
        about = {"kind": self.kind, "column": self.column, "files": files, "passed_over": dict(self.selection.passed_over)}
        return {**about, **counts, "made": self.made}

    @property
    def made(self) -> str:
        """How documents were made of what is there, as a clause; empty where each row is one."""
        long = f"cut at the ends of lines into documents of about {self.piece:,} characters" if self.pieces > self.texts else ""
        if self.texts < self.rows - self.empty:
            return f"rows that are single lines are joined{', and ' * bool(long)}{long}"
        return f"long {'files' if self.kind == 'text' else 'rows'} are {long}" if long else ""

    @property
    def sentence(self) -> str:
        """One line."""
        files, rows = len(self.selection.files), f"{self.rows:,} rows"
        what = f"{self.kind}, {files:,} file{'s' * (files != 1)}" if files else self.kind
        of = f", column {self.column}" if self.column else ""
        unit = "" if self.kind == "text" else f", {rows}"
        split = f", {self.in_split:,} of them {self.split}" if self.split else ""
        said = (
            f"read {self.corpus} ({what}{of}{unit}): {self.empty:,} empty, {self.repeated:,} repeated, "
            f"{self.documents:,} document{'s' * (self.documents != 1)}{split}"
        )
        said += f"; {self.made}" if self.made else ""
        passed = [f"{some(names)} ({reason})" for reason, names in self.selection.passed_over.items()]
        return visible(said + (f"; skipped {', '.join(passed)}" if passed else ""))
