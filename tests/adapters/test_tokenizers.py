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
from transformers import PreTrainedTokenizerFast

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
def test_byte_ends_are_those_of_what_the_tokens_say(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Independently: byte-level tokens spell their own bytes, so a whole character ends where they do."""
    letters = {letter: byte for byte, letter in zip(_byte_order(), sorted(pre_tokenizers.ByteLevel.alphabet()), strict=True)}
    backend = byte_level()
    tokenizer = as_json(byte_level, tmp_path_factory.mktemp("bytes"))
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
    """Independently: a token ends where what the pieces spell ends, a piece of a character at the end of the character."""
    ids, ends = as_is.encode(text)
    data, spelled = text.encode(), b""
    for token, end in zip(ids, ends, strict=True):
        piece = as_is._backend.id_to_piece(token)
        spelled += bytes([int(piece[3:5], 16)]) if piece.startswith("<0x") else piece.replace("▁", " ").encode()
        assert end == len(text[: len(spelled.decode(errors="replace"))].encode())
    assert spelled == data
    assert as_is.decode(ids) == text


@pytest.fixture(scope="module")
def as_is(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    return SentencePieceTokenizer(trained(tmp_path_factory.mktemp("sentencepiece"), AS_BAICHUAN) / "tokenizer.model")


BOS_OF_SENTENCEPIECE = [
    (None, 1),  # as Meta's code and Baichuan's: `[bos_id] + pieces` unless told otherwise
    ({"add_bos_token": False}, None),  # as Baichuan publishes it
    ({"add_bos_token": True}, 1),
    ({"bos_token": None}, None),
    ({"bos_token": {"content": "<s>", "lstrip": False}}, 1),
    ({"bos_token": "</s>"}, 2),
    ({"bos_token": "<new>", "added_tokens_decoder": {"400": {"content": "<new>", "special": True}}}, 400),
]


@pytest.mark.parametrize(("config", "bos"), BOS_OF_SENTENCEPIECE)
def test_bos_of_sentencepiece(config: dict | None, bos: int | None, tmp_path: Path) -> None:
    trained(tmp_path, AS_BAICHUAN)
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    found = find_tokenizer(tmp_path)
    assert found is not None
    assert found.bos_id == bos
    assert 1 not in found.encode("<s>the").ids


def test_a_bos_token_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, AS_BAICHUAN)
    named = {"bos_token": "<begin>", "tokenizer_class": "LlamaTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named | {"add_bos_token": False}))
    found = find_tokenizer(tmp_path)
    assert found is not None
    assert (found.bos_id, found.prefix_id) == (None, 2)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named | {"add_bos_token": True}))
    for make in (find_tokenizer, lambda folder: as_json(marked, folder)):
        with pytest.raises(StrataError, match="names the bos_token '<begin>', which is not in its vocabulary"):
            make(tmp_path)


TEMPLATES = [
    processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)]),
    processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)]),  # Qwen3-Embedding
    processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]),
    processors.Sequence(  # Llama 3
        [processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])]
    ),
    processors.RobertaProcessing(("</s>", 2), ("<s>", 1)),
    processors.BertProcessing(("</s>", 2), ("<s>", 1)),
    processors.ByteLevel(),
    None,
]


@pytest.mark.parametrize("config", [{}, {"add_bos_token": True}, {"add_bos_token": False}], ids=str)
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: type(t).__name__)
def test_bos_is_what_transformers_puts_in_front(template: processors.PostProcessor | None, config: dict, tmp_path: Path) -> None:
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named | config))
    found = as_json(lambda: marked(template), tmp_path)
    reference = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    plain, whole = found.encode("the").ids, reference("the").input_ids
    assert plain == reference("the", add_special_tokens=False).input_ids
    front = whole[: next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)]
    assert ([] if found.bos_id is None else [found.bos_id]) == front
    assert found.prefix_id == 1


def marked(template: processors.PostProcessor | None = None) -> Backend:
    """`byte_fallback` with its special tokens marked as such, a word that is added, and a template."""
    backend = Backend.from_str(byte_fallback().to_str())
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.add_tokens(["fox"])
    backend.post_processor = template
    return backend


@pytest.mark.parametrize(("says", "bos"), [({}, None), ({"add_bos_token": True}, 1), ({"add_bos_token": False}, None)], ids=str)
def test_llamas_class_obeys_add_bos_token(says: dict, bos: int | None, tmp_path: Path) -> None:
    """DeepSeek publishes a template without BOS and `add_bos_token: true`; by hand, since transformers 5 reads the template alone."""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>"} | says))
    assert as_json(marked, tmp_path).bos_id == bos
    with_bos = as_json(lambda: marked(TEMPLATES[0]), tmp_path)  # a template that says otherwise
    assert with_bos.bos_id == (1 if says.get("add_bos_token", True) else None)


@pytest.mark.parametrize("token", [["content", "special"], True, 1, {"content": None}, {"content": ["<s>"]}], ids=str)
def test_a_token_that_is_none_is_refused(token: object, tmp_path: Path) -> None:
    """It is not the same as null, which says that nothing stands in front."""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "bos_token": token}))
    with pytest.raises(StrataError, match="has a token of another form"):
        as_json(marked, tmp_path)


def test_two_tokens_in_front_are_refused(tmp_path: Path) -> None:
    two = processors.TemplateProcessing(single="<s> </s> $A", special_tokens=[("<s>", 1), ("</s>", 2)])
    with pytest.raises(StrataError, match=r"puts 2 tokens in front of a text \(ids 1, 2\), expected one or none"):
        as_json(lambda: marked(two), tmp_path)


@pytest.mark.parametrize(("ids", "prefix"), [((-1, [5, 6]), 5), ((7, 2), 7), ((None, None), None)])
def test_the_prefix_of_config_json(ids: tuple, prefix: int | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"bos_token_id": ids[0], "eos_token_id": ids[1]}))
    assert as_json(byte_level, tmp_path).prefix_id == prefix


SPELLED = ["<s>", "the</s>the", "a <unk> fox", "</s>"]


@pytest.mark.parametrize("text", SPELLED)
def test_special_tokens_that_a_text_spells_are_text(text: str, tmp_path: Path, as_is: SentencePieceTokenizer) -> None:
    """As transformers does with `split_special_tokens`; an added word stays a token."""
    found = as_json(marked, tmp_path)
    reference = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), split_special_tokens=True)
    assert found.encode(text).ids == reference(text, add_special_tokens=False).input_ids
    assert ("fox" in text) == (marked().token_to_id("fox") in found.encode(text).ids)
    assert_byte_ends(found, text)
    assert not {1, 2} & {*found.encode(text).ids, *as_is.encode(text).ids}
    assert as_is.decode(as_is.encode(text).ids) == text


def test_what_a_file_asks_for_and_a_measurement_must_not_have(tmp_path: Path) -> None:
    """Merges dropped at random, offsets trimmed of spaces."""

    def backend() -> Backend:
        made = Backend.from_str(byte_level().to_str())
        made.model.dropout, made.post_processor = 0.5, processors.ByteLevel(trim_offsets=True)
        return made

    found = as_json(backend, tmp_path)
    expected = byte_level().encode(TEXT, add_special_tokens=False).ids
    assert all(found.encode(TEXT).ids == expected for _ in range(5))
    assert found.encode("a \t\n b  ").byte_ends == list(range(1, 9))


@pytest.mark.parametrize("special", [True, False])
def test_added_words_that_only_other_files_know(special: bool, tmp_path: Path) -> None:
    """Without them `tokenizer.model` reads another text than the model was trained on; special ones are text anyway."""
    trained(tmp_path, AS_BAICHUAN)
    (tmp_path / "added_tokens.json").write_text('{"<zork>": 400}')
    if special:
        (tmp_path / "special_tokens_map.json").write_text('{"pad_token": "<zork>"}')
    found = find_tokenizer(tmp_path)
    assert found is not None
    assert (found.top, found.size) == (400, 401)
    assert found.encode("the quick").ids
    if special:
        assert found.decode(found.encode("a <zork>").ids) == "a <zork>"
    else:
        with pytest.raises(StrataError, match="the text has '<zork>', a token that files beside the tokenizer add"):
            found.encode("a <zork>")


@pytest.mark.parametrize("content", ['{"added_tokens_decoder": {"x": {}}}', '{"added_tokens_decoder": [1]}', "[]", '{"bos_token": {}}'])
def test_notes_of_another_form_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(StrataError, match=r"tokenizer_config\.json"):
        as_json(marked, tmp_path)


def test_a_broken_sentencepiece_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(StrataError, match=r"cannot read the tokenizer .*tokenizer\.model"):
        find_tokenizer(tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path, AS_BAICHUAN)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(StrataError, match="pip install sentencepiece"):
        find_tokenizer(tmp_path)
