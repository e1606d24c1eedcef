"""The tokenizer of a GGUF file: the tokenizer.json beside it, else one made of the vocabulary in its header.

Rules and defaults are those of llama.cpp (src/llama-vocab.cpp).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from adapters.checkpoints.folders import write_json
from adapters.checkpoints.gguf.header import Header
from adapters.checkpoints.gguf.tables import (
    BESIDE_VOCABULARY,
    BYTE,
    CONTROL,
    SPLITS,
    TOKENIZER,
    TOKENIZER_HARMLESS,
    TOKENIZER_USED,
    UNKNOWN,
    USER_DEFINED,
    Split,
)
from adapters.checkpoints.gguf.vocabulary import FIX, KEY, Vocabulary, read_vocabulary, require_same
from adapters.errors import StrataError, one_line, unknown

BESIDE = ("tokenizer.json", "tokenizer_config.json")  # taken instead of the header's when the first lies beside the file
KINDS = ("gpt2", "llama")  # tokenizer.ggml.model: pairs of bytes, SentencePiece's pairs
NONE = ("none", "no_vocab")
SPACE = "▁"


def write_tokenizer(header: Header, out: Path) -> dict[str, int | None]:
    """Writes the tokenizer's files. Returns what config.json says of it. Raises StrataError by name of what is not supported."""
    beside, kind = header.path.with_name(BESIDE[0]), header.value(f"{KEY}model", str)
    if kind in NONE:
        return {}
    words = read_vocabulary(header)
    if beside.is_file():
        require_same(words, beside)
        for name in BESIDE:
            if (file := header.path.with_name(name)).is_file():
                shutil.copyfile(file, out / name)
        _require_same_start(header, out)
    else:
        if kind not in KINDS:
            raise StrataError(f"{unknown(f'{KEY}model of {header.path}', kind, KINDS)}; or {FIX}")
        _write(words, out)
    return {f"{name}_token_id": words.special(name) for name in ("bos", "eos")}


def _require_same_start(header: Header, out: Path) -> None:
    """Raises StrataError when the header says whether BOS stands in front, and the files in `out` say otherwise."""
    from adapters.tokenizers import find_tokenizer

    key = f"{KEY}add_bos_token"
    tokenizer = find_tokenizer(out)
    if tokenizer and key in header.values and header.value(key, bool) != (tokenizer.bos_id is not None):
        raise StrataError(
            f"{header.path}: {key} is {header.value(key, bool)}, the tokenizer.json beside it says otherwise: "
            "put the model's own tokenizer_config.json beside it too, or take both away"
        )


def _write(words: Vocabulary, out: Path) -> None:
    from tokenizers import Tokenizer

    header = words.header
    for key in header.values:
        name = key.removeprefix(KEY)
        known = name in TOKENIZER_USED | TOKENIZER_HARMLESS or key.startswith(BESIDE_VOCABULARY)
        if key.startswith(TOKENIZER) and not known and (name, header.values[key]) != ("remove_extra_whitespaces", False):
            raise StrataError(f"{header.path}: {key!r:.80} is a part of a tokenizer that is not supported: {FIX}")
    split = _split(header) if words.bytewise else None
    adds_bos, adds_eos = words.adds("bos", split.adds_bos if split else True), words.adds("eos", False)
    made = _bytewise(words, split) if split else _sentencepiece(words)
    frame = [words.special("bos")] * adds_bos, [words.special("eos")] * adds_eos
    made |= {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(words),
        "post_processor": _template(words, *frame),
    }
    text = json.dumps(made, ensure_ascii=False)
    try:
        Tokenizer.from_str(text)
    except Exception as error:  # the Rust backend raises bare Exception
        raise StrataError(f"{header.path}: its vocabulary is damaged ({one_line(error)}): download it again, or {FIX}") from error
    (out / BESIDE[0]).write_text(text, encoding="utf-8")
    names = {
        f"{short}_token": words.token(name) for short, name in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
    }
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    settings |= {name: token for name, token in names.items() if token is not None}
    settings |= {"add_bos_token": adds_bos, "add_eos_token": adds_eos}
    if template := header.value("tokenizer.chat_template", str, ""):
        settings["chat_template"] = template
    write_json(out / BESIDE[1], settings)


def _split(header: Header) -> Split:
    pre = header.value(f"{KEY}pre", str, "")
    if pre not in SPLITS:
        found = (
            f"{unknown(f'{KEY}pre of {header.path}', pre, SPLITS)}; or"
            if pre
            else f"{header.path} does not say how texts are split ({KEY}pre):"
        )
        raise StrataError(f"{found} {FIX}")
    return SPLITS[pre]


def _bytewise(words: Vocabulary, split: Split) -> dict[str, Any]:
    lines = words.header.value(f"{KEY}merges", list)
    merges = [[line[:at], line[at + 1 :]] for line in lines if type(line) is str and (at := line.find(" ", 1)) > 0]
    if len(merges) != len(lines):
        raise StrataError(f"{words.header.path}: {KEY}merges holds more than pairs of tokens: the file is damaged; download it again")
    cuts = [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False} for pattern in split.patterns]
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "normalizer": {"type": "NFC"} if split.normalised else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*cuts, bytes_]},
        "decoder": bytes_,
        "model": _pairs(words, merges, whole_words=split.whole_words),
    }


def _sentencepiece(words: Vocabulary) -> dict[str, Any]:
    scores = words.header.value(f"{KEY}scores", list)
    if len(scores) != len(words.tokens) or not all(type(score) is float for score in scores):
        raise StrataError(
            f"{words.header.path}: {len(scores)} scores for {len(words.tokens)} tokens: the file is damaged; download it again"
        )
    prefix = words.header.value(f"{KEY}add_space_prefix", bool, True)
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    decoders = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*([{"type": "Prepend", "prepend": SPACE}] if prefix else []), spaces]},
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [*decoders, *([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else [])],
        },
        "model": _pairs(words, _by_score(words, scores), unknown=words.token("unknown")),
    }


def _by_score(words: Vocabulary, scores: list[float]) -> list[list[str]]:
    """SentencePiece joins the two neighbours that make the token of the highest score: all such pairs, in that order."""
    whole = {
        token: score for token, kind, score in zip(words.tokens, words.types, scores, strict=True) if kind not in (UNKNOWN, CONTROL, BYTE)
    }
    order = sorted(whole, key=lambda token: -whole[token])
    return [[token[:at], token[at:]] for token in order for at in range(1, len(token)) if token[:at] in whole and token[at:] in whole]


def _pairs(words: Vocabulary, merges: list[list[str]], *, whole_words: bool = False, unknown: str | None = None) -> dict[str, Any]:
    vocabulary = {token: i for i, token in enumerate(words.tokens)}
    optional = {"dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    settings = {"unk_token": unknown, "fuse_unk": True, "byte_fallback": not words.bytewise, "ignore_merges": whole_words}
    return {"type": "BPE", **optional, **settings, "vocab": vocabulary, "merges": merges}


def _added(words: Vocabulary) -> list[dict[str, Any]]:
    """Tokens that are found in a text before it is cut."""
    kinds = {UNKNOWN: True, CONTROL: True, USER_DEFINED: False}
    rule = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    entries = enumerate(zip(words.tokens, words.types, strict=True))
    return [{"id": i, "content": token, **rule, "special": kinds[kind]} for i, (token, kind) in entries if kind in kinds]


def _template(words: Vocabulary, before: list[int | None], after: list[int | None]) -> dict[str, Any] | None:
    """What is added to each text."""
    if not before and not after:
        return None
    ids = [i for i in (*before, *after) if i is not None]
    names = {words.tokens[i]: {"id": words.tokens[i], "ids": [i], "tokens": [words.tokens[i]]} for i in ids}

    def frame(*sequences: str) -> list[dict[str, Any]]:
        special = [[{"SpecialToken": {"id": words.tokens[i], "type_id": 0}} for i in side if i is not None] for side in (before, after)]
        return [piece for name in sequences for piece in (*special[0], {"Sequence": {"id": name, "type_id": 0}}, *special[1])]

    return {"type": "TemplateProcessing", "single": frame("A"), "pair": frame("A", "B"), "special_tokens": names}
