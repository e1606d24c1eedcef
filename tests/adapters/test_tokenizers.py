"""Byte ends: what lets models with different vocabularies score the same bytes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceTrainer
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from adapters import StrataError
from adapters.tokenizers import JsonTokenizer, SentencePieceTokenizer, Tokenizer, find_tokenizer
from tests.shared_data import shared

TEXT = "The quick brown fox jumps over the lazy dog. 敏捷的棕色狐狸跳过了懒狗。 Le renard brun saute. 123 456! " * 20


@cache
def byte_level() -> Backend:
    """As in GPT-2, Llama 3, Qwen and SmolLM2: any byte is a token, a character may be several."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    return backend


@cache
def byte_fallback() -> Backend:
    """As in Llama 2: words begin with ▁ and unknown characters fall back to bytes."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{b:02X}>": 3 + b for b in range(256)}
    for token in ["▁", *dict.fromkeys("thequickbrownfx敏捷的"), "▁t", "▁th", "▁the", "敏捷"]:
        vocab.setdefault(token, len(vocab))
    merges = [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("敏", "捷")]
    backend = Backend(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0)]
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return backend


def as_json(backend: Callable[[], Backend], folder: Path) -> Tokenizer:
    backend().save(str(folder / "tokenizer.json"))
    found = find_tokenizer(folder)
    assert isinstance(found, JsonTokenizer)
    return found


@pytest.fixture(scope="module", params=[byte_level, byte_fallback], ids=lambda f: f.__name__)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return as_json(request.param, tmp_path_factory.mktemp("tokenizer"))


def assert_byte_ends(tokenizer: Tokenizer, text: str) -> None:
    ids, ends = tokenizer.encode(text)
    assert len(ids) == len(ends)
    assert ends == sorted(ends)
    assert all(0 <= end <= len(text.encode()) for end in ends)
    assert (ends[-1] if ends else 0) == len(text.encode())


@given(text=st.text(max_size=40))
def test_byte_ends_rise_to_the_end(tokenizer: Tokenizer, text: str) -> None:
    assert_byte_ends(tokenizer, text)


SCRIPTS = ["the ", "敏捷", "的", "🦊", "👨‍👩‍👧", "é", "e\u0301", "\n", "  ", "\t", "\x00", "ß"]


@given(text=st.lists(st.sampled_from(SCRIPTS), max_size=12).map("".join))
def test_byte_ends_of_mixed_scripts(tokenizer: Tokenizer, text: str) -> None:
    assert_byte_ends(tokenizer, text)


@given(text=st.text(alphabet="thequick 敏捷的🦊", max_size=30))
def test_decode_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@given(text=st.text(alphabet="the quick 敏捷的🦊é", max_size=30))
def test_byte_ends_are_those_of_what_the_tokens_say(text: str) -> None:
    """Independently: byte-level tokens spell their own bytes, so a whole character ends where they do."""
    letters = {letter: byte for byte, letter in zip(_byte_order(), sorted(pre_tokenizers.ByteLevel.alphabet()), strict=True)}
    backend = byte_level()
    tokenizer = JsonTokenizer.__new__(JsonTokenizer)
    tokenizer._backend = backend
    ids, ends = tokenizer.encode(text)
    data, spelled = text.encode(), b""
    for token, end in zip(ids, ends, strict=True):
        spelled += bytes(letters[letter] for letter in backend.id_to_token(token))
        if len(spelled) == len(data) or data[len(spelled)] & 0xC0 != 0x80:  # at the end of a character
            assert end == len(spelled)
        else:
            assert abs(end - len(spelled)) < 4
    assert spelled == data


def _byte_order() -> list[int]:
    """Bytes in the order of the letters that GPT-2 writes for them: printable ones are themselves, the rest follow."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return printable + [b for b in range(256) if b not in printable]


@pytest.mark.parametrize(
    ("text", "ends"),
    [("the", [3]), ("the the", [3, 7]), ("敏捷的", [3, 6, 9]), ("的🦊", [3, 3, 7, 7, 7, 7])],
)
def test_byte_ends_by_hand(text: str, ends: list[int], tmp_path: Path) -> None:
    """A piece of a character counts as the whole of it."""
    assert as_json(byte_fallback, tmp_path).encode(text).byte_ends == ends


def test_bos_is_known_and_not_added(tmp_path: Path) -> None:
    with_bos = as_json(byte_fallback, tmp_path)
    assert with_bos.bos_id == 1
    assert 1 not in with_bos.encode("the").ids
    (tmp_path / "other").mkdir()
    assert as_json(byte_level, tmp_path / "other").bos_id is None


def test_truncation_and_padding_of_the_file_are_off(tmp_path: Path) -> None:
    def limited() -> Backend:
        backend = Backend.from_str(byte_level().to_str())
        backend.enable_truncation(4)
        backend.enable_padding(length=64)
        return backend

    assert as_json(limited, tmp_path).encode(TEXT).ids == byte_level().encode(TEXT, add_special_tokens=False).ids


def test_a_folder_without_tokenizer_has_none(tmp_path: Path) -> None:
    assert find_tokenizer(tmp_path) is None


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(StrataError, match="cannot read the tokenizer"):
        find_tokenizer(tmp_path)


def test_stories_tokenizer() -> None:
    tokenizer = find_tokenizer(shared("models/stories260K"))
    assert tokenizer is not None
    for text in ("Once upon a time", "从前有一座山", "🦊 é\n\n  x"):
        assert_byte_ends(tokenizer, text)
        assert tokenizer.decode(tokenizer.encode(text).ids).strip() == text


AS_BAICHUAN = {"add_dummy_prefix": False, "remove_extra_whitespaces": False, "normalization_rule_name": "identity"}


@pytest.fixture(scope="module", params=[{}, AS_BAICHUAN], ids=["normalised", "as-is"])
def sentencepiece_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sentencepiece model with byte fallback, with and without normalisation of the text."""
    return trained(tmp_path_factory.mktemp("sentencepiece"), request.param)


def trained(folder: Path, options: dict) -> Path:
    sizes = {"vocab_size": 400, "model_type": "bpe", "byte_fallback": True, "minloglevel": 2}
    with (folder / "tokenizer.model").open("wb") as file:
        SentencePieceTrainer.train(sentence_iterator=iter([TEXT] * 3), model_writer=file, **sizes, **options)
    return folder


@given(text=st.text(max_size=40) | st.lists(st.sampled_from(SCRIPTS), max_size=12).map("".join))
def test_byte_ends_of_sentencepiece(sentencepiece_folder: Path, text: str) -> None:
    tokenizer = find_tokenizer(sentencepiece_folder)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    if tokenizer.encode(text).ids:  # normalisation leaves nothing of spaces
        assert_byte_ends(tokenizer, text)


@given(text=st.lists(st.sampled_from(SCRIPTS), max_size=12).map("".join))
def test_sentencepiece_tokens_spell_the_text(as_is: SentencePieceTokenizer, text: str) -> None:
    """Independently: a token ends where what the pieces spell ends, a piece of a character in front of the character."""
    ids, ends = as_is.encode(text)
    data, spelled = text.encode(), b""
    for token, end in zip(ids, ends, strict=True):
        piece = as_is._backend.id_to_piece(token)
        spelled += bytes([int(piece[3:5], 16)]) if piece.startswith("<0x") else piece.replace("▁", " ").encode()
        assert end == len(spelled.decode(errors="ignore").encode())
    assert spelled == data
    assert as_is.decode(ids) == text


@pytest.fixture(scope="module")
def as_is(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    return SentencePieceTokenizer(trained(tmp_path_factory.mktemp("sentencepiece"), AS_BAICHUAN) / "tokenizer.model")


@pytest.mark.parametrize(("config", "bos"), [(None, None), ({"add_bos_token": False}, None), ({"add_bos_token": True}, 1)])
def test_bos_of_sentencepiece(config: dict | None, bos: int | None, tmp_path: Path) -> None:
    trained(tmp_path, AS_BAICHUAN)
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    found = find_tokenizer(tmp_path)
    assert found is not None
    assert found.bos_id == bos
    assert 1 not in found.encode("<s>the").ids


def test_a_broken_sentencepiece_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(StrataError, match=r"cannot read the tokenizer .*tokenizer\.model"):
        find_tokenizer(tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path, AS_BAICHUAN)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(StrataError, match="pip install sentencepiece"):
        find_tokenizer(tmp_path)
