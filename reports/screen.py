"""What the HTML of a report has beyond the PDF: pictures, files and a script inside it, tables that scroll below captions that do not."""

from __future__ import annotations

import base64
import hashlib
import html
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPTS = ("page.js", "explorer.js")
MIMES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".csv": "text/csv"}

Node = dict[str, Any]  # a node of pandoc's document: its type "t" and its content "c"


def only(*blocks: Node, raw: str) -> Node:
    """What the HTML alone shows: `blocks`, and HTML of ours behind them."""
    return {"t": "Div", "c": [["", ["screen"], []], [*blocks, {"t": "RawBlock", "c": ["html", raw]}]]}


def without(document: Node) -> Node:
    """The document for paper."""
    return document | {"blocks": [block for block in document["blocks"] if not (block["t"] == "Div" and "screen" in block["c"][0][1])]}


def alive(document: Node, work: Path, out: Path) -> Node:
    """The document for the screen, which needs no other file: pictures lie in `work`, figures and tables that it offers in `out`.

    Its policy lets no script run but its own and loads nothing from anywhere, whatever a notebook held.
    """
    code = "\n".join((HERE / name).read_text(encoding="utf-8").strip() for name in SCRIPTS)
    own = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{own}'; base-uri 'none'; form-action 'none'"
    meta = {
        name: value | {"c": _blocks(value["c"], work, out)} if value["t"] == "MetaBlocks" else value
        for name, value in document["meta"].items()
    }
    meta |= {"script": _raw_meta(f"<script>{code}</script>"), "policy": _raw_meta(policy)}
    return document | {"blocks": _blocks(document["blocks"], work, out), "meta": meta}


def _blocks(blocks: list[Node], work: Path, out: Path) -> list[Node]:
    make = {"Figure": lambda block: _figure(block, work, out), "Table": lambda block: _table(block, out)}
    return [make.get(block["t"], lambda block: block)(block) for block in blocks]


def _figure(block: Node, work: Path, out: Path) -> Node:
    """With its picture inside, and a link to its file, in whose place the script offers the picture itself."""
    attributes, caption, ((plain),) = block["c"]
    (image,) = plain["c"]
    attr, alt, (name, title) = image["c"]
    file = dict(attr[2]).get("file", "")
    attr = [attr[0], attr[1], [pair for pair in attr[2] if pair[0] != "file"]]
    image = {"t": "Image", "c": [attr, alt, [_data((work / name).read_bytes(), name), title]]}
    link = f'<a class="file" href="{html.escape(file)}" download>SVG</a>' if file and (out / file).is_file() else ""
    return {"t": "Figure", "c": [attributes, _linked(caption, link), [{"t": "Plain", "c": [image]}]]}


def _table(block: Node, out: Path) -> Node:
    """In a box that scrolls, with headers that say what they head; the caption, and the table as CSV, beside the box."""
    attr, caption, columns, head, bodies, foot = block["c"]
    file = dict(attr[2]).get("file", "")
    head = [head[0], [_scoped(row, "col") for row in head[1]]]
    bodies = [[body[0], 1, body[2], [_scoped(row, "row", 1) for row in body[3]]] for body in bodies]
    table = {"t": "Table", "c": [["", [], []], [None, []], columns, head, bodies, foot]}
    box: Node = {"t": "Div", "c": [["", ["scroll"], []], [table]]}
    path = out / file
    caption = _linked(caption, offered(path.read_bytes(), path.name) if file and path.is_file() else "")
    return {"t": "Figure", "c": [["", ["tabular"], []], caption, [box]]} if caption[1] else box


def _scoped(row: list[Any], scope: str, first: int | None = None) -> list[Any]:
    """A row whose first cells, or all, are headers."""
    attr, cells = row
    return [attr, [[["", [], [["scope", scope]]], *cell[1:]] if first is None or i < first else cell for i, cell in enumerate(cells)]]


def _linked(caption: list[Any], link: str) -> list[Any]:
    """The caption with a link behind it; a link alone is no caption."""
    if not (caption[1] and link):
        return caption
    *others, last = caption[1]
    return [caption[0], [*others, {"t": last["t"], "c": [*last["c"], {"t": "Space"}, {"t": "RawInline", "c": ["html", link]}]}]]


def offered(content: bytes, name: str) -> str:
    """A link that hands out a file which is inside the page."""
    label = Path(name).suffix[1:].upper()
    return f'<a class="file" href="{_data(content, name)}" download="{html.escape(name)}">{label}</a>'


def _data(content: bytes, name: str) -> str:
    return f"data:{MIMES[Path(name).suffix]};base64,{base64.b64encode(content).decode()}"


def _raw_meta(text: str) -> Node:
    return {"t": "MetaInlines", "c": [{"t": "RawInline", "c": ["html", text]}]}
