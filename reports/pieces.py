"""Pieces of executed notebooks: what a report shows of them, in its order.

Shown are markdown cells and what code cells show: Markdown, pictures (SVG stays vector), text. Source code, stderr and
widgets (progress bars) are left out. What stands beside an output is in its metadata, `{"strata": {"caption": ..., ...}}`, as
analysis/display/show.py writes it; `{"strata": {"hidden": True}}` is for Jupyter alone.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

from adapters.errors import StrataError, visible
from analysis.display.format import escape, listed
from reports.collect import shown_file

ANSWERS_FIGURE, ANSWERS_TABLE = "figures/answers.svg", "tables/answers.csv"  # of the first page, beside the report
PICTURES = {"image/svg+xml": ".svg", "image/png": ".png", "image/jpeg": ".jpg"}


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing to show: Markdown, or the file name of a picture; and its caption (Markdown). `facts` go to the report's end.

    `alt` says what a picture shows, `points` what its points are: where in it, in shares of its width and height from the upper left
    corner, and a text. `file` is that of a figure or table beside the report. `html` is ours, and for the screen alone, as is all of
    such a piece.
    """

    markdown: str = ""
    picture: str = ""
    caption: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    alt: str = ""
    points: tuple[tuple[float, float, str], ...] = ()
    file: str = ""
    html: str = ""


class Chapter(NamedTuple):
    """A question, and the executed notebooks that answer it, each by the name of what it is about (plain text; one needs none).

    All come from one notebook, so that they are shown cell by cell: what it explains once, then what it found of each. `title` stands
    in place of its own, `notes` (Markdown) below it.
    """

    notebooks: Sequence[tuple[str, Path]]
    title: str = ""
    notes: str = ""


class Front(NamedTuple):
    """The first page (Markdown), with the content of one picture (SVG) and its caption in the middle; and a box of words for the second.

    `below` is a table with a caption of its own, `csv` the same as a file.
    """

    above: str = ""
    picture: str = ""
    caption: str = ""
    below: str = ""
    words: str = ""
    alt: str = ""  # of the picture, as `Piece.alt`
    points: tuple[tuple[float, float, str], ...] = ()
    below_caption: str = ""
    csv: str = ""

    @property
    def files(self) -> dict[str, str]:
        """What a report folder has of the page: name -> content."""
        return {name: content for name, content in ((ANSWERS_FIGURE, self.picture), (ANSWERS_TABLE, self.csv)) if content}

    def pieces(self, work: Path) -> tuple[list[Piece], list[Piece]]:
        """Of the page, and of the box; the picture is written into `work`."""
        drawn = kept(self.picture.encode(), ".svg", work) if self.picture else ""
        picture = Piece(picture=drawn, caption=self.caption, alt=self.alt, points=self.points, file=ANSWERS_FIGURE) if drawn else Piece()
        below = Piece(self.below, caption=self.below_caption, file=ANSWERS_TABLE) if self.below else Piece()
        page = [piece for piece in (Piece(self.above), picture, below) if piece != Piece()]
        return page, [Piece(self.words)] * bool(self.words)


def pieces(chapters: Sequence[Chapter], work: Path) -> tuple[list[Piece], list[Piece]]:
    """What the chapters show, and what was measured on what; pictures are written into `work`.

    Raises StrataError for a file that is not a notebook.
    """
    body = [piece for chapter in chapters for piece in _woven(chapter, work)]
    methods = [Piece(_methods(chapters, body))] if any(piece.facts for piece in body) else []
    return list(_once(piece for piece in body if not piece.facts)), methods


def _woven(chapter: Chapter, work: Path) -> Iterator[Piece]:
    """What the notebooks of a chapter show, cell by cell; pictures are written into `work`."""
    if chapter.title:
        yield Piece(f"# {escape(chapter.title)}")
    if chapter.notes:
        yield Piece(chapter.notes)
    several = len(chapter.notebooks) > 1
    for cells in zip(*(_read(path).cells for _, path in chapter.notebooks), strict=True):
        found: list[list[Piece]] = []
        for (label, _), cell in zip(chapter.notebooks, cells, strict=True):
            source = [] if chapter.title and cell.source.startswith("# ") else [Piece(cell.source)]
            pieces = source if cell.cell_type == "markdown" else list(_outputs(cell, work))
            found.append([piece if cell.cell_type == "markdown" or not several else _labelled(piece, label) for piece in pieces])
        if cells[0].cell_type == "markdown":
            yield from dict.fromkeys(piece for pieces in found for piece in pieces)
            continue
        for row in zip_longest(*found):
            yield from _alike([piece for piece in row if piece is not None], chapter)


def _labelled(piece: Piece, label: str) -> Piece:
    """A piece that says which model it is about, where it does not say so itself."""
    name = escape(label)
    if piece.facts or not label or (piece.markdown and piece.markdown.lstrip()[:1] in "#|`-*"):
        return replace(piece, caption=_about(piece.caption, name))
    text = f"**{name}.** {piece.markdown}" if piece.markdown and not piece.caption else piece.markdown
    return replace(piece, markdown=text, caption=_about(piece.caption, name))


def _about(caption: str, name: str) -> str:
    return (
        caption if not caption or name in caption else f"{name}: {caption[:1].lower() + caption[1:] if caption[1:2].islower() else caption}"
    )


def _alike(pieces: Sequence[Piece], chapter: Chapter) -> Sequence[Piece]:
    """What is the same of all models is shown once, without their names."""
    bare = {piece.markdown.removeprefix(f"**{escape(label)}.** ") for piece, (label, _) in zip(pieces, chapter.notebooks, strict=False)}
    if len(pieces) > 1 and len(bare) == 1 and not any(piece.picture or piece.caption or piece.facts for piece in pieces):
        return [Piece(bare.pop())]
    return pieces


def _once(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The same without pictures that were shown before."""
    shown = set()
    for piece in pieces:
        if piece.picture in shown:
            yield Piece(f"*Shown above:* {piece.caption}")
            continue
        if piece.picture:
            shown.add(piece.picture)
        yield piece


def _methods(chapters: Sequence[Chapter], pieces: Sequence[Piece]) -> str:
    """What was measured and on what, question by question (Markdown): said once where it is the same of all models."""
    said, found = ["# What was measured, and on what"], [piece.facts for piece in pieces if piece.facts]
    for chapter in chapters:
        labels, mine = [label for label, _ in chapter.notebooks], found[: len(chapter.notebooks)]
        found = found[len(mine) :]
        rows: dict[str, dict[str, list[str]]] = {}
        for label, facts in zip(labels, mine, strict=False):
            for name, value in facts:
                rows.setdefault(name, {}).setdefault(value, []).append(label)
        lines = []
        for name, values in rows.items():
            each = [
                escape(value) if len(of) == len(mine) else f"{listed(map(escape, of))}: {escape(value)}" for value, of in values.items()
            ]
            lines.append(f"- *{escape(name)}*: {'; '.join(each)}")
        if lines:
            said += [f"**{escape(chapter.title)}**" if chapter.title else "", "\n".join(lines)]
    return "\n\n".join(said)


def _outputs(cell: Any, work: Path) -> Iterator[Piece]:
    """What a code cell shows; pictures are written into `work`."""
    for output in cell.get("outputs", ()):
        if output.output_type == "error":
            yield Piece(_verbatim(f"{output.ename}: {output.evalue}"))
        elif output.output_type != "stream":
            yield from _shown(output.data, output.metadata.get("strata", {}), work)
        elif output.name == "stdout":
            yield Piece(_verbatim(output.text))


def _shown(data: Mapping[str, str], mark: Mapping[str, Any], work: Path) -> Iterator[Piece]:
    """The one form of an output that a report shows best, if any."""
    if mark.get("hidden") or any("widget" in mime for mime in data):
        return
    caption, file = str(mark.get("caption", "")), shown_file(mark)
    if facts := mark.get("facts"):
        yield Piece(facts=tuple((str(name), str(value)) for name, value in facts))
        return
    for mime, suffix in PICTURES.items():
        if mime in data:
            content = data[mime].encode() if suffix == ".svg" else base64.b64decode(data[mime])
            alt, points = visible(mark.get("alt", "")), tuple(_points(mark.get("points")))
            yield Piece(picture=kept(content, suffix, work), caption=caption, alt=alt, points=points, file=file)
            return
    if "text/markdown" in data:
        yield Piece(data["text/markdown"], caption=caption, file=file)
    elif "text/plain" in data:
        yield Piece(_verbatim(data["text/plain"]), caption=caption)


def _points(found: object) -> Iterator[tuple[float, float, str]]:
    """Of what lies within the picture; whatever else stands there is left out."""
    for point in found if isinstance(found, list) else []:
        match point:
            case [float() | int() as x, float() | int() as y, str(said)] if 0 <= x <= 1 and 0 <= y <= 1:
                yield float(x), float(y), visible(said)


def kept(content: bytes, suffix: str, work: Path) -> str:
    """The name of a file in `work` with this content."""
    name = hashlib.sha256(content).hexdigest()[:16] + suffix
    (work / name).write_bytes(content)
    return name


def _verbatim(text: str) -> str:
    """Text as Markdown's code, without terminal colours, behind a fence longer than any inside it."""
    text = re.sub(r"\r\n?", "\n", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)).rstrip()
    fence = "`" * (3 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}" if text else ""


def _read(path: Path) -> Any:
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, AttributeError) as error:
        raise StrataError(f"{path} cannot be read as a notebook: {error}") from None
