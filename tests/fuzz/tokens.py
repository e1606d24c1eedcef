"""Tokenizers: tokenizer.json, tokenizer.model, GPT-NeoX's file beside RWKV, and what the files beside them say.

The reference is the package of each format by itself: it must read a text as the same ids, put the same token in front, and every
id must have a row in the embedding.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer as Backend

from adapters import load
from adapters.errors import StrataError
from tests.adapters.test_tokenizers import TEMPLATES, byte_fallback, byte_level, marked, trained
from tests.fuzz.core import Kind
from tests.fuzz.mutations import json_file, raw
from tests.fuzz.verdicts import Unread, Wrong
from tests.reference.hf import tiny
from tests.reference.rwkv_checkpoints import random_checkpoint

WORDS = ["the quick  brown fox", "敏捷的 🦊 é", "a\n\nb\t", "x", " the", "0123"]
NAMES = (
    "add_bos_token add_eos_token bos_token eos_token unk_token pad_token tokenizer_class added_tokens_decoder additional_special_tokens "
    "truncation padding normalizer pre_tokenizer post_processor model added_tokens dropout vocab merges version legacy"
).split()
SAID = {
    "tokenizer_class": "LlamaTokenizerFast",
    "bos_token": {"content": "<s>", "special": True},
    "eos_token": "</s>",
    "add_bos_token": True,
    "added_tokens_decoder": {"1": {"content": "<s>", "special": True}, "2": {"content": "</s>", "special": True}},
    "additional_special_tokens": ["<unk>"],
}


def _llama(folder: Path, rows: int) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    tiny(vocab_size=rows, **sizes).save_pretrained(folder)


def _json(backend: Callable[[], Backend], **said: Any) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        found = backend()
        found.save(str(folder / "tokenizer.json"))
        if said:
            (folder / "tokenizer_config.json").write_text(json.dumps(said))
            (folder / "added_tokens.json").write_text(json.dumps({"<s>": 1, "</s>": 2}))
        _llama(folder, found.get_vocab_size())

    return save


def _sentencepiece(folder: Path) -> None:
    trained(folder, {})
    (folder / "tokenizer_config.json").write_text(json.dumps(SAID))
    _llama(folder, 400)


def _pile(folder: Path) -> None:
    byte_level().save(str(folder / "20B_tokenizer.json"))
    torch.save(random_checkpoint("4", blocks=1, vocab=byte_level().get_vocab_size()), folder / "m.pth")


BASES: dict[str, Callable[[Path], None]] = {
    "bytes": _json(byte_level),
    "fallback": _json(byte_fallback),
    "llama": _json(lambda: marked(TEMPLATES[0]), **SAID),
    "eos": _json(lambda: marked(TEMPLATES[1]), **SAID | {"tokenizer_class": "PreTrainedTokenizerFast"}),
    "roberta": _json(lambda: marked(TEMPLATES[4])),
    "sentencepiece": _sentencepiece,
    "pile": _pile,
}


def _make(root: Path) -> dict[str, list]:
    for name, save in BASES.items():
        (root / name).mkdir()
        save(root / name)
    return {name: _read(root / name) for name in BASES}


def _mutate(rng: Random, folder: Path, base: Any) -> str:
    files = [path for path in sorted(folder.iterdir()) if "token" in path.name]
    path = rng.choice([file for file in files if "config" not in file.name and "added" not in file.name] * 2 + files)
    if rng.random() < 0.03:
        path.unlink()
        return f"{path.name} is gone"
    if path.suffix == ".json":
        return json_file(rng, path, NAMES)
    changed, said = raw(rng, path.read_bytes(), 0, rng.choice([None, 300]))
    path.write_bytes(changed)
    return f"{path.name}: {said}"


def _read(folder: Path) -> list:
    """The token in front, and the ids of each text; None of one that is refused."""
    model = load(folder, device="cpu", dtype="float32")
    tokenizer, rows = model.tokenizer, model.spec.vocab_size
    if tokenizer is None:
        return []
    found: list = [tokenizer.bos_id]
    for text in WORDS:
        try:
            ids, ends = tokenizer.encode(text)
        except StrataError:
            found.append(None)
            continue
        if ends != sorted(ends) or len(ends) != len(ids) or (ends and ends[-1] != len(text.encode())):
            raise Wrong(f"{text!r} ends at {ends}")
        if any(not 0 <= i < rows for i in [*ids, *({tokenizer.bos_id, tokenizer.prefix_id} - {None})]):
            raise Wrong(f"{text!r} has the ids {ids}, the embedding {rows} rows")
        found.append(ids)
    return found


def _reference(folder: Path) -> list:
    said = folder / "tokenizer_config.json"
    config = json.loads(said.read_text()) if said.is_file() else {}
    bos = config.get("bos_token")
    bos = bos["content"] if isinstance(bos, dict) else bos
    path = next((path for path in (folder / "tokenizer.json", folder / "20B_tokenizer.json") if path.is_file()), None)
    if path is None:
        if not (folder / "tokenizer.model").is_file():
            return []
        processor = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        none = config.get("add_bos_token") is False or ("bos_token" in config and bos is None)
        first = processor.piece_to_id(bos) if bos else processor.bos_id()
        return [None if none or first < 0 else first, *(processor.encode(text) for text in WORDS)]
    backend = Backend.from_file(str(path))
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    if getattr(backend.model, "dropout", None):
        backend.model.dropout = None
    return [_front(backend, config, bos), *(backend.encode(text, add_special_tokens=False).ids for text in WORDS)]


def _front(backend: Backend, config: dict[str, Any], bos: str | None) -> int | None:
    """What stands in front of a text, if it is one token; Llama's class is told by add_bos_token."""
    if str(config.get("tokenizer_class")).startswith("Llama") and isinstance(config.get("add_bos_token"), bool):
        named = bos if "bos_token" in config else "<s>"
        return backend.token_to_id(named) if config["add_bos_token"] and named else None
    plain, text = next(((ids, text) for text in WORDS if (ids := backend.encode(text, add_special_tokens=False).ids)), ([], ""))
    whole = backend.encode(text, add_special_tokens=True).ids
    at = next((i for i in range(len(whole)) if plain and whole[i : i + len(plain)] == plain), None)
    if at is None or at > 1:
        raise Unread("the text is not in what is made of it, or stands behind several tokens")
    return whole[0] if at else None


def _judge(folder: Path, base: list) -> tuple[str, str]:
    got = _read(folder)
    try:
        want, why = _reference(folder), ""
    except BaseException as error:  # Rust panics with what is no Exception
        want, why = base, f"{type(error).__name__}: {error}"
    if len(got) == len(want) and all(a == b or (i and a is None) for i, (a, b) in enumerate(zip(got, want, strict=True))):
        return ("as before" if why else "right"), why
    raise Wrong(f"{got} for {want} {why}")


KIND = Kind(_make, _mutate, _judge)
