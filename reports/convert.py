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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import nbformat
import pypandoc
import typst

from adapters.checkpoints.folders import unfinished
from adapters.errors import StrataError, visible
from analysis.display.format import escape

HERE = Path(__file__).parent
# Markdown as Jupyter reads it, every cell on its own, and no way to smuggle markup in
SOURCE = "ipynb+smart-raw_html-raw_markdown-raw_tex-raw_attribute-pandoc_title_block-auto_identifiers"
PICTURES = {"image/svg+xml": ".svg", "image/png": ".png", "image/jpeg": ".jpg"}
NO_ATTR: list[Any] = ["", [], []]

Node = dict[str, Any]  # a node of pandoc's document: its type "t" and its content "c"


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing to show: Markdown, or the file name of a picture; and its caption (Markdown)."""

    markdown: str = ""
    picture: str = ""
    caption: str = ""


def convert(
    notebooks: Sequence[Path],
    out: Path,
    *,
    title: str,
    subtitle: str = "",
    facts: Mapping[str, object] | None = None,
    about: Mapping[Path, str] | None = None,
    ending: str = "",
) -> tuple[Path, Path]:
    """Writes `out`/report.pdf and `out`/report.html, each at once or not at all, and returns both paths.

    `title`, `subtitle` and `facts` (label -> value, shown below the title: date, model, budget, ...) are plain text, as
    is what a notebook is `about`, which stands in its first heading; `ending` is Markdown behind the notebooks.
    Raises StrataError for a file that is not a notebook.
    """
    out.mkdir(parents=True, exist_ok=True)
    with unfinished(out) as work:
        pieces = [piece for path in notebooks for piece in _titled(_pieces(_read(path), work), (about or {}).get(path, ""))]
        pieces += [Piece(ending)] * bool(ending)
        document = _document(pieces, title, subtitle, facts or {})
        _pandoc(document, "typst", work / "report.typ", f"--template={HERE / 'template.typ'}")
        html = ["--mathml", "--toc", "--toc-depth=2", "--number-sections", "--embed-resources", f"--resource-path={work}"]
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


def _read(path: Path) -> Node:
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, AttributeError) as error:
        raise StrataError(f"{path} cannot be read as a notebook: {error}") from None


def _titled(pieces: Iterator[Piece], about: str) -> Iterator[Piece]:
    """The pieces of a notebook; what it is about stands in front of its first heading."""
    for piece in pieces:
        if about and piece.markdown.startswith("# "):
            piece, about = replace(piece, markdown=f"# {escape(about)}: {piece.markdown[2:]}"), ""
        yield piece


def _pieces(notebook: Any, work: Path) -> Iterator[Piece]:
    """What a notebook shows; pictures are written into `work`."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield Piece(cell.source)
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
    for mime, suffix in PICTURES.items():
        if mime in data:
            content = data[mime].encode() if suffix == ".svg" else base64.b64decode(data[mime])
            name = hashlib.sha256(content).hexdigest()[:16] + suffix
            (work / name).write_bytes(content)
            yield Piece(picture=name, caption=caption)
            return
    if "text/markdown" in data:
        yield Piece(data["text/markdown"], caption=caption)
    elif "text/plain" in data:
        yield Piece(_verbatim(data["text/plain"]), caption=caption)


def _verbatim(text: str) -> str:
    """Text as Markdown's code, without terminal colours, behind a fence longer than any inside it."""
    text = re.sub(r"\r\n?", "\n", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)).rstrip()
    fence = "`" * (3 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}" if text else ""


def _document(pieces: Sequence[Piece], title: str, subtitle: str, facts: Mapping[str, object]) -> Node:
    """Pandoc's document: one cell for each piece and one for its caption, parsed apart, then put together and numbered."""
    cells = [nbformat.v4.new_markdown_cell(source) for piece in pieces for source in (piece.markdown, piece.caption)]
    source = nbformat.writes(nbformat.v4.new_notebook(cells=cells))
    document: Node = json.loads(
        pypandoc.convert_text(source, "json", SOURCE, ["--columns=10000"])
    )  # wide: no table gets fixed column widths
    parsed = [_clean(cell["c"][1]) for cell in document["blocks"]]
    blocks: list[Node] = []
    figures, tables, sections = count(1), count(1), count(1)
    for piece, body, caption in zip(pieces, parsed[::2], parsed[1::2], strict=True):
        inlines = [inline for block in caption if block["t"] in ("Para", "Plain") for inline in block["c"]]
        if piece.picture:
            body = [_figure(piece.picture, inlines, figures)]
        for block in body:
            if block["t"] == "Header":
                block["c"][1] = [f"section-{next(sections)}", [], []]
            if block["t"] == "Table":
                block["c"][1], inlines = _caption("Table", inlines, tables), []
                block = {"t": "Div", "c": [["", ["scroll"], []], [block]]}
            blocks.append(block)
    labels = [{"t": "MetaMap", "c": {"label": _plain(label), "value": _plain(value)}} for label, value in facts.items()]
    meta = {"title": _plain(title), "subtitle": _plain(subtitle), "facts": {"t": "MetaList", "c": labels}}
    return document | {"blocks": blocks, "meta": {name: value for name, value in meta.items() if value["c"]}}


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
