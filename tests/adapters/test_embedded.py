"""Tokenizers and embeddings that do not belong together: refused when a model is loaded, or when a text reaches the id."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import processors

from adapters import StrataError, load
from adapters.embedded import mismatch
from adapters.families.rwkv.tokenizers import ByteTokenizer, WorldTokenizer, find_tokenizer
from tests.adapters.test_tokenizers import byte_level
from tests.reference.models import save_reader


def change(folder: Path, **tokens: list[str]) -> None:
    """Adds special tokens, and words, to the tokenizer of a folder."""
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.add_special_tokens(tokens.get("special", []))
    backend.add_tokens(tokens.get("words", []))
    backend.save(str(folder / "tokenizer.json"))


def test_an_added_pad_token_does_no_harm(tmp_path: Path) -> None:
    """Its id is behind the embedding, and no text has it: the ids are those without it."""
    save_reader(tmp_path)
    change(tmp_path, special=["<pad>"])
    tokenizer = load(tmp_path, device="cpu").tokenizer
    assert tokenizer is not None
    assert (tokenizer.bos_id, tokenizer.prefix_id) == (256, 256)
    assert tokenizer.encode("a <pad>").ids == list(b"a <pad>")


def test_a_word_behind_the_embedding_is_refused_when_a_text_has_it(tmp_path: Path) -> None:
    save_reader(tmp_path)
    change(tmp_path, words=["zork"])
    tokenizer = load(tmp_path, device="cpu").tokenizer
    assert tokenizer is not None
    assert tokenizer.encode("no word").ids == list(b"no word")
    with pytest.raises(StrataError, match=r"the text has the token 'zork' with the id 258, and .* has 258 rows of embedding"):
        tokenizer.encode("a zork")


def test_bos_behind_the_embedding_is_refused(tmp_path: Path) -> None:
    save_reader(tmp_path)
    backend = Backend.from_file(str(tmp_path / "tokenizer.json"))
    backend.add_special_tokens(["<new>"])
    backend.post_processor = processors.TemplateProcessing(single="<new> $A", special_tokens=[("<new>", 258)])
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(StrataError, match="the token in front of a text has the id 258, and the embedding has 258 rows"):
        load(tmp_path, device="cpu")


def test_a_prefix_behind_the_embedding_is_none(tmp_path: Path) -> None:
    save_reader(tmp_path, bos=False, bos_token_id=None, eos_token_id=999)
    tokenizer = load(tmp_path, device="cpu").tokenizer
    assert tokenizer is not None
    assert tokenizer.prefix_id is None


@pytest.mark.parametrize(
    ("rows", "says"), [(200, "its tokens have ids up to 257, and the embedding has 200 rows"), (2048, "it has 258 tokens"), (384, "")]
)
def test_sizes_are_compared(rows: int, says: str, tmp_path: Path) -> None:
    """Embeddings are padded, to a multiple of 128 for example; a tokenizer that is far too small is another model's."""
    save_reader(tmp_path, vocab_size=rows, bos_token_id=1)
    if not says:
        assert load(tmp_path, device="cpu").tokenizer is not None
        return
    with pytest.raises(StrataError, match=f"is of another model .{says}.*: use the one that came with the weights"):
        load(tmp_path, device="cpu")


PUBLISHED = [  # tokens with added ones, rows
    (151_665, 152_064),  # Qwen2.5-7B
    (100_015, 102_400),  # DeepSeek-LLM
    (50_295, 51_200),  # Phi-1.5
    (101_304, 103_424),  # ERNIE 4.5
    (32_000, 32_000),
]


@pytest.mark.parametrize(("size", "rows"), PUBLISHED)
def test_published_embeddings_have_room(size: int, rows: int) -> None:
    tokenizer = ByteTokenizer()
    tokenizer.top = tokenizer.size = size
    assert not mismatch(tokenizer, rows)


def test_a_text_that_cannot_be_read(tmp_path: Path) -> None:
    save_reader(tmp_path)
    tokenizer = load(tmp_path, device="cpu").tokenizer
    assert tokenizer is not None
    with pytest.raises(StrataError, match="cannot read a text: character 2 is half a character"):
        tokenizer.encode("ab\ud800c")


def test_the_world_vocabulary_goes_before_a_foreign_file(tmp_path: Path) -> None:
    byte_level().save(str(tmp_path / "tokenizer.json"))
    assert isinstance(find_tokenizer(tmp_path, 65536), WorldTokenizer)
    assert isinstance(find_tokenizer(tmp_path, 256), ByteTokenizer)
    size = byte_level().get_vocab_size()
    own = find_tokenizer(tmp_path, size)
    assert own is not None
    assert own.encode("the quick").ids == byte_level().encode("the quick").ids


def test_world_reads_special_tokens_as_text() -> None:
    from rwkv import rwkv_tokenizer

    reference = rwkv_tokenizer.TRIE_TOKENIZER(str(Path(rwkv_tokenizer.__file__).parent / "rwkv_vocab_v20230424.txt"))
    tokenizer = WorldTokenizer()
    for text in ("<|endoftext|>", "a<s>b</s>"):
        assert tokenizer.encode(text).ids == reference.encode(text)
    assert (tokenizer.top, tokenizer.size) == (max(tokenizer._bytes) + 1, len(tokenizer._bytes) + 1)  # the end of text has no bytes
