"""Executed notebooks -> one PDF and the same as one HTML file, by pandoc and typst (both wheels; no TeX, no browser).

Shown are markdown cells and what code cells show: Markdown, pictures (SVG stays vector), text. Source code, stderr and
widgets (progress bars) are left out. A caption (Markdown) stands in the output's metadata, `{"strata": {"caption": ...}}`,
as analysis/display/plots.py writes it; `{"strata": {"hidden": True}}` is for Jupyter alone. Nothing in a notebook can act in the
report: raw HTML, TeX and typst are text, pictures from elsewhere are dropped, links go to web addresses only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pypandoc
import typst

from adapters.checkpoints.folders import unfinished
from adapters.errors import StrataError, visible
from analysis.display.format import escape, listed

HERE = Path(__file__).parent
# Markdown as Jupyter reads it, every cell on its own, and no way to smuggle markup in
SOURCE = "ipynb+smart-raw_html-raw_markdown-raw_tex-raw_attribute-pandoc_title_block-auto_identifiers"
PICTURES = {"image/svg+xml": ".svg", "image/png": ".png", "image/jpeg": ".jpg"}
NO_ATTR: list[Any] = ["", [], []]

Node = dict[str, Any]  # a node of pandoc's document: its type "t" and its content "c"


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing to show: Markdown, or the file name of a picture; and its caption (Markdown). `facts` go to the report's end."""

    markdown: str = ""
    picture: str = ""
    caption: str = ""
    facts: tuple[tuple[str, str], ...] = ()


class Chapter(NamedTuple):
    """A question, and the executed notebooks that answer it, each by the name of what it is about (plain text; one needs none).

    All come from one notebook, so that they are shown cell by cell: what it explains once, then what it found of each. `title` stands
    in place of its own, `notes` (Markdown) below it.
    """

    notebooks: Sequence[tuple[str, Path]]
    title: str = ""
    notes: str = ""


class Front(NamedTuple):
    """The first page (Markdown), with the content of one picture (SVG) and its caption in the middle; and a box of words for the second."""

    above: str = ""
    picture: str = ""
    caption: str = ""
    below: str = ""
    words: str = ""


def convert(
    chapters: Sequence[Chapter],
    out: Path,
    *,
    title: str,
    facts: Mapping[str, object] | None = None,
    front: Front | None = None,
    ending: str = "",
) -> tuple[Path, Path]:
    """Writes `out`/report.pdf and `out`/report.html, each at once or not at all, and returns both paths.

    `title` and `facts` (label -> value, shown at the end: date, machine, command, ...) are plain text; `ending` is Markdown behind the
    chapters. Raises StrataError for a file that is not a notebook.
    """
    out.mkdir(parents=True, exist_ok=True)
    with unfinished(out) as work:
        body = [piece for chapter in chapters for piece in _woven(chapter, work)]
        methods = [Piece(_methods(chapters, body))] if any(piece.facts for piece in body) else []
        shown = [*_once(piece for piece in body if not piece.facts), *methods, *([Piece(ending)] * bool(ending))]
        document = _document(_front(front or Front(), work), shown, title, facts or {})
        _pandoc(document, "typst", work / "report.typ", f"--template={HERE / 'template.typ'}")
        html = ["--mathml", "--toc", "--toc-depth=1", "--number-sections", "--embed-resources", f"--resource-path={work}"]
        _pandoc(document, "html5", work / "report.html", f"--template={HERE / 'template.html'}", *html)
        # without a font for Chinese typst prints boxes and says nothing
        typst.compile(str(work / "report.typ"), str(work / "report.pdf"), font_paths=_fonts(), ignore_system_fonts=True)
        made = out / "report.pdf", out / "report.html"
        for path in made:
            os.replace(work / path.name, path)
    return made


def _fonts() -> list[str]:
    spec = find_spec("noto_cjk_sans_otc")
    return list(spec.submodule_search_locations or ()) if spec else []


def _pandoc(document: Node, to: str, path: Path, *options: str) -> None:
    pypandoc.convert_text(json.dumps(document), to, "json", [*options, "--wrap=none"], outputfile=str(path))


def _read(path: Path) -> Any:
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, AttributeError) as error:
        raise StrataError(f"{path} cannot be read as a notebook: {error}") from None


def _front(front: Front, work: Path) -> tuple[list[Piece], list[Piece]]:
    """The pieces of the first page, and of the box."""
    picture = [Piece(picture=_kept(front.picture.encode(), ".svg", work), caption=front.caption)] if front.picture else []
    return [piece for piece in (Piece(front.above), *picture, Piece(front.below)) if piece != Piece()], [Piece(front.words)] * bool(
        front.words
    )


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
    caption = str(mark.get("caption", ""))
    if facts := mark.get("facts"):
        yield Piece(facts=tuple((str(name), str(value)) for name, value in facts))
        return
    for mime, suffix in PICTURES.items():
        if mime in data:
            content = data[mime].encode() if suffix == ".svg" else base64.b64decode(data[mime])
            yield Piece(picture=_kept(content, suffix, work), caption=caption)
            return
    if "text/markdown" in data:
        yield Piece(data["text/markdown"], caption=caption)
    elif "text/plain" in data:
        yield Piece(_verbatim(data["text/plain"]), caption=caption)


def _kept(content: bytes, suffix: str, work: Path) -> str:
    """The name of a file in `work` with this content."""
    name = hashlib.sha256(content).hexdigest()[:16] + suffix
    (work / name).write_bytes(content)
    return name


def _verbatim(text: str) -> str:
    """Text as Markdown's code, without terminal colours, behind a fence longer than any inside it."""
    text = re.sub(r"\r\n?", "\n", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)).rstrip()
    fence = "`" * (3 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}" if text else ""


def _document(front: tuple[list[Piece], list[Piece]], shown: Sequence[Piece], title: str, facts: Mapping[str, object]) -> Node:
    """Pandoc's document: one cell for each piece and one for its caption, parsed apart, then put together and numbered."""
    parts = [*front, list(shown)]
    cells = [nbformat.v4.new_markdown_cell(source) for part in parts for piece in part for source in (piece.markdown, piece.caption)]
    source = nbformat.writes(nbformat.v4.new_notebook(cells=cells))
    document: Node = json.loads(
        pypandoc.convert_text(source, "json", SOURCE, ["--columns=10000"])
    )  # wide: no table gets fixed column widths
    parsed = iter([_clean(cell["c"][1]) for cell in document["blocks"]])
    numbers = count(1), count(1), count(1)
    first, words, body = ([block for piece in part for block in _put(piece, next(parsed), next(parsed), *numbers)] for part in parts)
    labels = [{"t": "MetaMap", "c": {"label": _plain(label), "value": _plain(value)}} for label, value in facts.items()]
    meta = {"title": _plain(title), "facts": {"t": "MetaList", "c": labels}}
    meta |= {name: {"t": "MetaBlocks", "c": blocks} for name, blocks in (("front", first), ("words", words))}
    return document | {"blocks": body, "meta": {name: value for name, value in meta.items() if value["c"]}}


def _put(
    piece: Piece, body: list[Node], caption: list[Node], figures: Iterator[int], tables: Iterator[int], sections: Iterator[int]
) -> Iterator[Node]:
    """The nodes of a piece, with its caption and number."""
    inlines = [inline for block in caption if block["t"] in ("Para", "Plain") for inline in block["c"]]
    for block in [_figure(piece.picture, inlines, figures)] if piece.picture else body:
        if block["t"] == "Header":
            block["c"][1] = [f"section-{next(sections)}", [], []]
        if block["t"] == "Table":
            block["c"][1], inlines = _caption("Table", inlines, tables), []
            block = {"t": "Div", "c": [["", ["scroll"], []], [block]]}
        yield block


def _plain(text: object) -> Node:
    return {"t": "MetaInlines", "c": _literal(_words(visible(" ".join(str(text).split()))))}


def _literal(inlines: list[Node]) -> list[Node]:
    """Text that begins like a list or a heading of typst, kept from the start of its line; pandoc forgets that in tables and titles."""
    begins = inlines and inlines[0]["t"] == "Str" and re.match(r"[=+/-]|\d+\.", inlines[0]["c"])
    return [{"t": "RawInline", "c": ["typst", "#[];"]}, *inlines] if begins else inlines


def _words(text: str) -> list[Node]:
    return [node for word in text.split() for node in ({"t": "Space"}, {"t": "Str", "c": word})][1:]


def _figure(picture: str, inlines: list[Node], numbers: Iterator[int]) -> Node:
    image = {"t": "Image", "c": [NO_ATTR, inlines, [picture, ""]]}
    return {"t": "Figure", "c": [NO_ATTR, _caption("Figure", inlines, numbers), [{"t": "Plain", "c": [image]}]]}


def _caption(noun: str, inlines: list[Node], numbers: Iterator[int]) -> list[Any]:
    """ "Figure 1: ..." when there is a caption; what has none has no number."""
    if not inlines:
        return [None, []]
    label = {"t": "Strong", "c": _words(f"{noun} {next(numbers)}:")}
    return [None, [{"t": "Plain", "c": [label, {"t": "Space"}, *inlines]}]]


def _clean(node: Any) -> Any:
    """The same without what could act: raw markup, pictures, attributes, links that are not web addresses, control characters."""
    if isinstance(node, list):
        return [_clean(item) for item in node]
    if not isinstance(node, dict) or "c" not in node:
        return node
    kind, content = node["t"], _clean(node["c"])
    if kind in ("Str", "Code", "CodeBlock", "RawBlock", "RawInline"):
        content = visible(content) if kind == "Str" else [content[0], visible(content[1], keep="\n\t")]
    if kind in ("RawBlock", "RawInline"):
        return {"t": "CodeBlock" if kind == "RawBlock" else "Code", "c": [NO_ATTR, content[1]]}
    if kind == "Image" or (kind == "Link" and not re.match("(https?://|mailto:)", content[2][0])):
        return {"t": "Span", "c": [NO_ATTR, content[1]]}
    if kind in ("Code", "CodeBlock", "Div", "Figure", "Link", "Span", "Table"):
        content = [NO_ATTR, *content[1:]]
    if kind in ("Para", "Plain"):
        content = _literal(content)
    return {"t": kind, "c": content}
