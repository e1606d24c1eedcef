"""Texts as documents: how they are split by hash, and which window of each is scored."""

from __future__ import annotations

import hashlib
import heapq
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, islice
from typing import Any

from adapters.errors import StrataError, unknown
from adapters.tokenizers import Tokenizer
from analysis.data.hashes import content_hash
from analysis.data.reading import Reading
from analysis.data.sources import first_documents, is_offline, selection, state, texts

# Percent of documents, by hash. Models are trained on train; importance and removal orders come from calibration;
# every number shown is held-out; benchmark items whose passage is a document come from benchmark alone.
SPLITS = {"train": 78, "calibration": 6, "held-out": 10, "benchmark": 6}
OWN_SPLITS = {"calibration": 40, "held-out": 60}  # of a user's text, which trains nothing and is no benchmark
REMEMBERED = 100_000  # documents whose repetition is noticed
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
    unscored: int = 0  # bytes at its start that are read alone, where models that are compared cannot all score them

    @property
    def id(self) -> str:
        """Names it in records: another stretch of the same document is another window."""
        return f"{self.document}:{self.start}+{len(self.text)}" + (f"-{self.unscored}" if self.unscored else "")


def documents(corpus: str, piece: int = PIECE, reading: Reading | None = None) -> Iterator[Document]:
    """Distinct documents of a corpus, streamed: the offline texts (`texts`), files, folders and data sets (`analysis.data.rows.Source`).

    A running text and a long document are cut into documents of about `piece` characters. Of a data set, on the hub or in
    a folder, these are the first 10,000; of everything else all. Counts in `reading`. Raises StrataError when there are none.
    """
    reading = reading or Reading(corpus, selection(corpus))
    for text in islice(_distinct(texts(reading, piece), reading), first_documents(corpus)):
        yield Document.of(text)
    if not reading.documents:
        raise StrataError(f"the corpus {corpus!r} is empty: a corpus holds at least one text")


def _distinct(found: Iterator[str], reading: Reading) -> Iterator[str]:
    """Each text once, whatever its spaces and capitals. Memory is bounded: old ones are forgotten."""
    seen: OrderedDict[bytes, None] = OrderedDict()
    for text in found:
        whole = hashlib.sha256(" ".join(text.split()).casefold().encode()).digest()
        if whole in seen:
            reading.repeated += 1
            continue
        seen[whole] = None
        if len(seen) > REMEMBERED:
            seen.popitem(last=False)
        reading.documents += 1
        yield text


def sample(corpus: str, n: int, window: int, tokenizer: Tokenizer | Sequence[Tokenizer], **options: Any) -> list[Window]:
    """The windows of `sampled`."""
    return sampled(corpus, n, window, tokenizer, **options)[0]


def sampled(
    corpus: str,
    n: int,
    window: int,
    tokenizer: Tokenizer | Sequence[Tokenizer],
    *,
    split: str | None = "held-out",
    seed: int = 0,
    fewer: bool = False,
) -> tuple[list[Window], Reading]:
    """One window of about `window` tokens from each of `n` documents, in an order that does not depend on `n`; and what was read for it.

    Several tokenizers are given the same bytes: a window is then as long as the one that makes most tokens of it allows.
    Documents are ranked by a seeded hash; those shorter than a window are passed over. `split` None takes all documents.
    Raises StrataError when the corpus holds fewer, or none if `fewer` will do.
    """
    if n < 1 or window < 2:
        raise StrataError(f"{n} documents of {window} tokens were requested: a sample needs at least one document and two tokens")
    shares = SPLITS if is_offline(corpus) else OWN_SPLITS
    if split is not None and split not in shares:
        raise unknown("split", split, shares)
    tokenizers = tuple(tokenizer) if isinstance(tokenizer, Sequence) else (tokenizer,)
    found, reading = _first(corpus, n, window, tokenizers, split, seed, state(corpus))  # tokenizers are hashed by identity
    if len(found) == n or (fewer and found):
        return list(found), reading
    first = first_documents(corpus)
    raise StrataError(
        f"the {split or 'whole'} part of {f'the first {first:,} documents of ' if first else ''}the corpus {corpus!r} has {len(found)} "
        f"documents of {window} tokens, {n} were requested: give a longer text, fewer tokens or a shorter window ({reading.sentence})"
    )


@lru_cache(maxsize=32)  # a study asks for the same sample several times
def _first(
    corpus: str, n: int, window: int, tokenizers: tuple[Tokenizer, ...], split: str | None, seed: int, state: object
) -> tuple[tuple[Window, ...], Reading]:
    """Up to `n` windows. `state` is that of the files of the corpus: when it changes they are read again."""
    shares = SPLITS if is_offline(corpus) else OWN_SPLITS
    best: list[tuple[int, Window]] = []  # a heap of the n first, the last of them on top
    reading = Reading(corpus, selection(corpus), split=split)
    for document in documents(corpus, max(PIECE, 8 * window), reading):
        if split not in (None, document.split(shares)):
            continue
        reading.in_split += 1
        rank = -int(_rank(document, seed), 16)
        if len(best) == n and rank < best[0][0]:
            continue
        cut = _cut(document, window, tokenizers, seed)
        if cut is not None and (rank, cut) not in best:
            (heapq.heappush if len(best) < n else heapq.heapreplace)(best, (rank, cut))
    return tuple(cut for _, cut in sorted(best, key=lambda ranked: -ranked[0])), reading


def require_disjoint(a: list[Window], b: list[Window]) -> None:
    """Raises StrataError when two samples share a document."""
    if shared := {w.document for w in a} & {w.document for w in b}:
        raise StrataError(f"calibration and held-out text share {len(shared)} documents: use different splits or corpora")


def windows_hash(windows: list[Window]) -> str:
    return content_hash([w.id for w in windows])


def _cut(document: Document, window: int, tokenizers: tuple[Tokenizer, ...], seed: int) -> Window | None:
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
    found = [tokenizer.encode(part).byte_ends for tokenizer in tokenizers]
    long = [ends[window - 1] for ends in found if len(ends) >= window]
    if not long:
        return None
    stretch = _whole(part, min(long))
    if all(ends == found[0] for ends in found) and len({tokenizer.bos_id is None for tokenizer in tokenizers}) == 1:
        return Window(document.id, start, stretch)
    return _shared(Window(document.id, start, stretch), window, tokenizers)


def _shared(cut: Window, window: int, tokenizers: tuple[Tokenizer, ...]) -> Window | None:
    """`cut` shortened until no tokenizer makes more than `window` tokens of it, for a word that is cut may be more tokens.

    Where a model has no token in front of a text its first token is not scored; then no model scores what lies before the
    first boundary that all tokenizers have. None when nothing is left to score.
    """
    text = cut.text
    while over := [ends for t in tokenizers if len(ends := t.encode(text).byte_ends) > window]:
        text = _whole(text, min(max((end for end in ends if end < ends[window]), default=0) for ends in over))
    boundaries = set.intersection(*(set(t.encode(text).byte_ends) for t in tokenizers))
    unscored = min(boundaries, default=0) if any(t.bos_id is None for t in tokenizers) else 0
    return replace(cut, text=text, unscored=unscored) if unscored < len(text.encode()) else None


def _whole(text: str, end: int) -> str:
    """The whole characters of its first `end` bytes."""
    return text.encode()[:end].decode(errors="ignore")


def _rank(document: Document, seed: int) -> str:
    return hashlib.sha256(f"{seed} {document.id}".encode()).hexdigest()
