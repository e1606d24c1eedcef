"""Models with different tokenizers score exactly the same bytes."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers

from adapters import Ablation, load
from adapters.families.rwkv.tokenizers import ByteTokenizer
from adapters.tokenizers import Encoding, JsonTokenizer, SentencePieceTokenizer, Tokenizer
from analysis.data.batches import Text, encode
from analysis.data.documents import Window, sample
from analysis.runs.sweep_run import SweepStudy
from tests.adapters.test_tokenizers import AS_BAICHUAN, as_json, byte_fallback, trained
from tests.reference.models import save_reader
from tests.reference.naive import naive_nll

TEXT = "the tower over seven stones café naïve 天地 玄黄 river Wörter slowly 宇宙洪荒 letters extraordinarily"
WORDS = TEXT.split()


class Thirds:
    """Three characters are a token, and a text begins with another one."""

    bos_id = 7

    def encode(self, text: str) -> Encoding:
        ends = [len(text[:n].encode()) for n in range(3, len(text), 3)] + ([len(text.encode())] if text else [])
        return Encoding(list(range(len(ends))), ends)

    def decode(self, ids: list[int]) -> str:
        raise NotImplementedError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("\n".join(" ".join(rng.choices(WORDS, k=60)) for _ in range(900)), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, corpus: str) -> JsonTokenizer:
    """Byte pairs: a character of three bytes is one token or up to three, and a cut word is more tokens than a whole one."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train([corpus], trainers.BpeTrainer(vocab_size=310, initial_alphabet=alphabet, show_progress=False))
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(path))
    return JsonTokenizer(path)


def scored(window, tokenizer: Tokenizer) -> tuple[str, int, int]:
    """The text behind the first scored token's start, its bytes by the batch's own count, and the tokens read."""
    batch = encode([window], tokenizer)
    ends = [0] * (tokenizer.bos_id is not None) + tokenizer.encode(window.text).byte_ends
    start = ends[int(batch.first[0]) - 1]
    return window.text.encode()[start:].decode(), int(batch.bytes[0]), len(ends) - (tokenizer.bos_id is not None)


@pytest.mark.parametrize("length", [20, 33, 64])
def test_all_tokenizers_score_the_same_bytes(length: int, corpus: str, pairs: JsonTokenizer) -> None:
    tokenizers = (pairs, Thirds(), ByteTokenizer())
    windows = sample(corpus, 40, length, tokenizers)
    assert windows == sample(corpus, 40, length, tokenizers[::-1]), "in whichever order they are named"
    alone = {w.document: w for w in sample(corpus, 40, length, pairs)}
    both = [(w, alone[w.document]) for w in windows if w.document in alone]
    assert len(both) > 30, "a document is passed over only where a window has no common boundary"
    assert all(w.start == own.start and own.text.startswith(w.text) for w, own in both), "windows begin where they did"
    cuts = set()
    for window in windows:
        found = {scored(window, tokenizer)[:2] for tokenizer in tokenizers}
        assert len(found) == 1
        ((text, n_bytes),) = found
        assert len(text.encode()) == n_bytes == len(window.text.encode()) - window.unscored
        sizes = [scored(window, tokenizer)[2] for tokenizer in tokenizers]
        assert length - 4 <= max(sizes) <= length, "no longer for any, and as long as one of them allows"
        cuts.add(window.unscored)
    assert len(cuts) > 1, "the first common boundary is not the same everywhere"


def test_a_cut_word_of_more_tokens_is_not_too_long(corpus: str, pairs: JsonTokenizer) -> None:
    """With two tokenizers alone: each makes at most as many tokens as asked for, at every length."""
    tokenizers = (pairs, Thirds())
    for length in range(8, 40):
        for window in sample(corpus, 6, length, tokenizers):
            assert max(scored(window, tokenizer)[2] for tokenizer in tokenizers) <= length


@pytest.mark.parametrize("kind", ["json", "sentencepiece", "as Baichuan"])
@pytest.mark.parametrize("bos", [1, None])
def test_bytes_are_those_of_the_scored_tokens_where_a_character_is_many(kind: str, bos: int | None, tmp_path: Path) -> None:
    """A text that begins with a character of four pieces: all of it counts behind BOS, without BOS what follows the character."""
    if kind == "json":
        tokenizer: JsonTokenizer | SentencePieceTokenizer = as_json(byte_fallback, tmp_path)
    else:
        tokenizer = SentencePieceTokenizer(trained(tmp_path, AS_BAICHUAN if kind == "as Baichuan" else {}) / "tokenizer.model")
    tokenizer.bos_id = bos
    batch = encode([Window("d", 0, "🦊 the")], tokenizer)
    front, behind = len(tokenizer.encode("🦊").ids), len(tokenizer.encode("🦊 the").ids) - len(tokenizer.encode("🦊").ids)
    assert front in (4, 5)  # with a space in front, or without
    assert (int(batch.tokens[0]), int(batch.bytes[0])) == ((front + behind, 8) if bos else (behind, 4))


def test_equal_tokenizers_change_nothing(corpus: str, pairs: JsonTokenizer) -> None:
    """Models of one tokenizer share the runs that each has alone."""
    assert sample(corpus, 20, 32, (pairs, pairs)) == sample(corpus, 20, 32, pairs)
    assert Text(corpus, tokenizers=(pairs, pairs)).identity == Text(corpus).identity
    assert Text(corpus, tokenizers=(pairs, Thirds())).identity == Text(corpus, tokenizers=(Thirds(), pairs)).identity
    assert Text(corpus, tokenizers=(pairs, Thirds())).identity != Text(corpus).identity


def test_where_all_have_a_token_in_front_all_is_scored(corpus: str) -> None:
    class Halves(Thirds):
        def encode(self, text: str) -> Encoding:
            ends = [len(text[:n].encode()) for n in range(2, len(text), 2)] + ([len(text.encode())] if text else [])
            return Encoding(list(range(len(ends))), ends)

    assert {w.unscored for w in sample(corpus, 20, 32, (Thirds(), Halves()))} == {0}


def test_a_sweep_leaves_out_the_bytes_that_are_not_scored(corpus: str, tmp_path: Path) -> None:
    """Sums of nll and bytes, from Hugging Face's model and by hand."""
    reference = save_reader(tmp_path / "model", bos=True)
    model = load(tmp_path / "model", device="cpu", dtype="float32")
    text = Text(corpus, window=24, documents=3, tokenizers=(model.tokenizer, Thirds(), ByteTokenizer()))
    study = SweepStudy.of(model, [Ablation(blocks=frozenset({1}))], text)
    scores = study.scores(tmp_path / "run")
    for i, window in enumerate(windows := text.windows(model)):
        tokens = re.findall(rb"Li|.", window.text.encode(), re.DOTALL)
        ids = torch.tensor([[256, *(257 if token == b"Li" else token[0] for token in tokens)]])
        ends = torch.tensor([len(token) for token in tokens]).cumsum(0)
        for j, ablation in enumerate(study.plan.ablations):
            nll = naive_nll(reference, ids, ablation)
            assert nll.numel() == len(ends)
            assert scores["nll"][j, i] == pytest.approx(float(nll.flatten()[ends > window.unscored].sum()), rel=1e-5)
        assert scores["bytes"][i] == len(window.text.encode()) - window.unscored
        assert scores["tokens"][i] == int((ends > window.unscored).sum())
    assert any(window.unscored for window in windows)
