"""Executed notebooks -> one PDF and the same as one HTML file, by pandoc and typst (both wheels; no TeX, no browser).

Nothing in a notebook can act in the report: raw HTML, TeX and typst are text, pictures from elsewhere are dropped, links go to web
addresses only. What the HTML has beyond the PDF is in `reports.screen`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import nbformat
import pypandoc
import typst

from adapters.checkpoints.folders import unfinished
from adapters.errors import visible
from analysis.removal.explored import Explored
from reports import screen
from reports.explorer import explorer
from reports.pieces import Chapter, Front, Piece, pieces
from reports.screen import Node

HERE = Path(__file__).parent
# Markdown as Jupyter reads it, every cell on its own, and no way to smuggle markup in
SOURCE = "ipynb+smart-raw_html-raw_markdown-raw_tex-raw_attribute-pandoc_title_block-auto_identifiers"
NO_ATTR: list[Any] = ["", [], []]
HTML = ("--mathml", "--toc", "--toc-depth=1", "--number-sections")


def convert(
    chapters: Sequence[Chapter],
    out: Path,
    *,
    title: str,
    facts: Mapping[str, object] | None = None,
    front: Front | None = None,
    ending: str = "",
    explored: Sequence[Explored] = (),
) -> tuple[Path, Path]:
    """Writes `out`/report.pdf and `out`/report.html, each at once or not at all, and returns both paths.

    `title` and `facts` (label -> value, shown at the end: date, machine, command, ...) are plain text; `ending` is Markdown behind the
    chapters, `explored` what a reader of the HTML picks parts from. Raises StrataError for a file that is not a notebook.
    """
    out.mkdir(parents=True, exist_ok=True)
    with unfinished(out) as work:
        body, methods = pieces(chapters, work)
        shown = [*body, *explorer(explored), *methods, *([Piece(ending)] * bool(ending))]
        document = _document((front or Front()).pieces(work), shown, title, facts or {})
        _pandoc(screen.without(document), "typst", work / "report.typ", f"--template={HERE / 'template.typ'}")
        _pandoc(screen.alive(document, work, out), "html5", work / "report.html", f"--template={HERE / 'template.html'}", *HTML)
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
    blocks = [_figure(piece, inlines, figures)] if piece.picture else body
    for block in blocks:
        if block["t"] == "Header":
            block["c"][1] = [f"section-{next(sections)}", ["unnumbered"] * bool(piece.html), []]
        if block["t"] == "Table":
            block["c"][0], block["c"][1] = ["", [], _named(file=piece.file)], _caption("Table", inlines, tables)
            inlines = []
    yield from [screen.only(*blocks, raw=piece.html)] if piece.html else blocks


def _plain(text: object) -> Node:
    return {"t": "MetaInlines", "c": _literal(_words(visible(" ".join(str(text).split()))))}


def _literal(inlines: list[Node]) -> list[Node]:
    """Text that begins like a list or a heading of typst, kept from the start of its line; pandoc forgets that in tables and titles."""
    begins = inlines and inlines[0]["t"] == "Str" and re.match(r"[=+/-]|\d+\.", inlines[0]["c"])
    return [{"t": "RawInline", "c": ["typst", "#[];"]}, *inlines] if begins else inlines


def _words(text: str) -> list[Node]:
    return [node for word in text.split() for node in ({"t": "Space"}, {"t": "Str", "c": word})][1:]


def _figure(piece: Piece, inlines: list[Node], numbers: Iterator[int]) -> Node:
    attributes = _named(file=piece.file, points=json.dumps(piece.points, ensure_ascii=False) if piece.points else "")
    image = {"t": "Image", "c": [["", [], attributes], _words(piece.alt) or inlines, [piece.picture, ""]]}
    return {"t": "Figure", "c": [NO_ATTR, _caption("Figure", inlines, numbers), [{"t": "Plain", "c": [image]}]]}


def _named(**attributes: str) -> list[list[str]]:
    """Attributes of a node, those that say something."""
    return [[name, value] for name, value in attributes.items() if value]


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
