"""Texts as documents: which files are prose, how documents are split by hash, and which window of each is scored."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from adapters.catalogue import PACKAGES
from adapters.errors import StrataError, unknown
from adapters.tokenizers import Tokenizer

# Files and columns of the offline texts that hold prose. Several are benchmarks as well: see SPLITS.
PROSE = (
    ("BoolQ/combined.jsonl", "passage"),
    ("MultiLexSum/test.jsonl", "document"),
    ("Quac/test.jsonl", "passage"),
    ("XSum/test.jsonl", "document"),
    ("PubMedQA/pqaa/test.jsonl", "passage"),
    ("PubMedQA/pqal/test.jsonl", "passage"),
    ("NarrativeQA/test.jsonl", "passage"),
    ("MedQA/test.jsonl", "question"),
)
# Percent of documents, by hash. Models are trained on train; importance and removal orders come from calibration;
# every number shown is held-out; benchmark items whose passage is a document come from benchmark alone.
SPLITS = {"train": 78, "calibration": 6, "held-out": 10, "benchmark": 6}
OWN_SPLITS = {"calibration": 40, "held-out": 60}  # of a user's text, which trains nothing and is no benchmark
PIECE = 4000  # characters, at least, of a document cut from a running text, at a paragraph's end where there is one


@dataclass(frozen=True, slots=True)
class Document:
    text: str
    id: str  # hash of the text

    @classmethod
    def of(cls, text: str) -> Document:
        return cls(text, hashlib.sha256(text.encode()).hexdigest()[:16])

    def split(self, shares: dict[str, int]) -> str:
        """The part it falls into, by hash; `shares` add up to 100."""
        percent = int(self.id[:8], 16) % 100
        ends = accumulate(shares.values())
        return next(name for name, end in zip(shares, ends, strict=True) if percent < end)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of one document, cut at character offsets: any model can be given the same."""

    document: str
    start: int
    text: str

    @property
    def id(self) -> str:
        """Names it in records: another stretch of the same document is another window."""
        return f"{self.document}:{self.start}+{len(self.text)}"


def documents(corpus: str, piece: int = PIECE) -> Iterator[Document]:
    """Distinct documents of the offline texts (`texts`), a UTF-8 text file, or a folder of .txt files; streamed.

    A running text is cut into documents of about `piece` characters.
    """
    seen = set()
    for text in _texts(corpus, piece):
        opening = hashlib.sha256(" ".join(text[:200].split()).casefold()[:100].encode()).digest()
        if opening not in seen:  # the same passage comes back with other questions, or cut a little differently
            seen.add(opening)
            yield Document.of(text)


def sample(
    corpus: str, n: int, window: int, tokenizer: Tokenizer, *, split: str | None = "held-out", seed: int = 0, fewer: bool = False
) -> list[Window]:
    """One window of about `window` tokens from each of `n` documents, in an order that does not depend on `n`.

    Documents are ranked by a seeded hash; those shorter than a window are passed over. `split` None takes all documents.
    Raises StrataError when the corpus holds fewer, or none if `fewer` will do.
    """
    if n < 1 or window < 2:
        raise StrataError(f"{n} documents of {window} tokens are asked for: at least one document and two tokens make a sample")
    shares = SPLITS if corpus == "texts" else OWN_SPLITS
    if split is not None and split not in shares:
        raise unknown("split", split, shares)
    best: list[tuple[int, Window]] = []  # a heap of the n first, the last of them on top
    for document in documents(corpus, max(PIECE, 8 * window)):
        rank = -int(_rank(document, seed), 16)
        if split not in (None, document.split(shares)) or (len(best) == n and rank < best[0][0]):
            continue
        cut = _cut(document, window, tokenizer, seed)
        if cut is not None:
            (heapq.heappush if len(best) < n else heapq.heapreplace)(best, (rank, cut))
    if len(best) == n or (fewer and best):
        return [cut for _, cut in sorted(best, key=lambda ranked: -ranked[0])]
    raise StrataError(
        f"the {split or 'whole'} part of the corpus {corpus!r} has {len(best)} documents of {window} tokens, {n} are asked for: "
        "give a longer text, fewer tokens or a shorter window"
    )


def require_disjoint(a: list[Window], b: list[Window]) -> None:
    """Raises StrataError when two samples share a document."""
    if shared := {w.document for w in a} & {w.document for w in b}:
        raise StrataError(f"calibration and held-out text share {len(shared)} documents: take them from different splits or corpora")


def windows_hash(windows: list[Window]) -> str:
    return hashlib.sha256(json.dumps([w.id for w in windows]).encode()).hexdigest()[:16]


def _cut(document: Document, window: int, tokenizer: Tokenizer, seed: int) -> Window | None:
    """A seeded place in the document; None when no whole window fits behind it."""
    text = document.text
    if len(text.encode()) < window:
        return None
    room = max(1, len(text) - 8 * window)  # English has 4 to 5 characters in a token
    start = int(_rank(document, seed + 1)[:8], 16) % room
    if start:
        space = text.find(" ", start, start + 40)
        start = space if space >= 0 else start
    part = text[start : start + 16 * window]
    ends = tokenizer.encode(part).byte_ends
    if len(ends) < window:
        return None
    return Window(document.id, start, part.encode()[: ends[window - 1]].decode(errors="ignore"))


def _rank(document: Document, seed: int) -> str:
    return hashlib.sha256(f"{seed} {document.id}".encode()).hexdigest()


def _texts(corpus: str, piece: int) -> Iterator[str]:
    path = Path(corpus).expanduser()
    if corpus == "texts":
        yield from _offline_texts()
    elif path.is_file():
        yield from _pieces(path, piece)
    elif path.is_dir():
        files = sorted(path.rglob("*.txt"))
        if not files:
            raise StrataError(f"the folder {path} holds no .txt files")
        for file in files:
            yield from _pieces(file, piece)
    else:
        raise StrataError(f"unknown corpus {corpus!r}: expected `texts` (the offline default), a text file or a folder of .txt files")


def _offline_texts() -> Iterator[str]:
    folder = PACKAGES["texts"].folder("texts") / "data"
    for file, column in PROSE:
        with (folder / file).open(encoding="utf-8") as lines:
            yield from (json.loads(line)[column].strip() for line in lines)


def _pieces(path: Path, size: int) -> Iterator[str]:
    """A running text in pieces of about `size` characters, whatever the length of the file."""
    held = ""
    for block in _blocks(path):
        held += block
        while len(held) > 2 * size:
            end = held.rfind("\n", size // 2, size) + 1 or size
            if piece := held[:end].strip():
                yield piece
            held = held[end:]
    if held.strip():
        yield held.strip()


def _blocks(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            read: Callable[[], str] = lambda: file.read(1 << 16)  # noqa: E731
            yield from iter(read, "")
    except UnicodeDecodeError as error:
        raise StrataError(f"{path} is not UTF-8 ({error.reason}): convert it, for example with iconv") from error
    except OSError as error:
        raise StrataError(f"cannot read {path}: {error.strerror}") from error
