"""Texts of tasks against lm_eval's own `hf` model on Hugging Face's, with and without a cache, and against the rwkv package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from adapters import Ablation, BlockModel, load
from adapters.checkpoints.export import Source
from analysis.engine.endings import Endings
from analysis.engine.row_budget import Prompt
from analysis.tasks import load_tasks
from analysis.tasks.written import WrittenTaskStudy
from tests.analysis.tasks.oracle import Both, both_of_smollm2
from tests.analysis.tasks.written_oracle import Logits, Said, assert_likeliest, assert_same, ended_by_a_stop, harness_texts
from tests.reference.naive import without
from tests.reference.rwkv_package import package_tokens
from tests.shared_data import shared


def logits_of(both: Both, ablation: Ablation) -> Logits:
    reference = without(both.reference, ablation)
    return lambda ids: reference(ids, use_cache=False).logits


def assert_as_harness(both: Both, chosen: list[Ablation], name: str, files: Path, folder: Path, limit: int, most: int, **how: bool) -> None:
    study = WrittenTaskStudy.of(both.model, chosen, load_tasks(name, limit=limit, data=files), most=most)
    found = study.writing.texts(folder / name)
    assert len({text["text"] for text in found.flat}) > 2, "texts that are all the same show nothing"
    for ours, ablation in zip(found, study.plan.ablations, strict=True):
        theirs = harness_texts(both, ablation, name, files, limit, max_gen_toks=most, **how)
        assert_same(ours, theirs, study.writing.prompts, logits_of(both, ablation))


@pytest.mark.parametrize("name", ["gsm8k", "coqa_turns", "xsum_rouge", "triviaqa"])
def test_texts_of_a_tiny_model_are_those_of_lm_eval(name: str, writer: Both, files: Path, tmp_path: Path) -> None:
    """Prompts of the five examples of gsm8k are cut on the left."""
    assert_as_harness(writer, [Ablation(blocks={0}), Ablation(blocks={1, 2})], name, files, tmp_path, 6, 24)


@pytest.mark.parametrize("name", ["gsm8k", "triviaqa"])
def test_texts_of_a_tiny_model_are_those_without_a_cache(name: str, writer: Both, files: Path, tmp_path: Path) -> None:
    assert_as_harness(writer, [Ablation(blocks={1})], name, files, tmp_path, 4, 16, use_cache=False)


def test_an_error_is_no_tie(writer: Both, files: Path, tmp_path: Path) -> None:
    """The texts of one ablation are not those of another, nor the likeliest, and the margins are said."""
    study = WrittenTaskStudy.of(writer.model, [Ablation(blocks={1})], load_tasks("triviaqa", limit=4, data=files), most=16)
    dense, other = study.writing.texts(tmp_path / "run")
    theirs, logits = [Said(text["text"], text["tokens"]) for text in other], logits_of(writer, Ablation())
    for check in (lambda: assert_same(dense, theirs, study.writing.prompts, logits), lambda: _likeliest(other, study, logits)):
        with pytest.raises(AssertionError, match=r"texts differ\ndocument 0, token \d+: margin \d"):
            check()
    assert_same(dense, [Said(text["text"], text["tokens"]) for text in dense], study.writing.prompts, logits)


def _likeliest(texts: np.ndarray, study: WrittenTaskStudy, logits: Logits) -> None:
    assert_likeliest(texts, study.writing.prompts, logits)


@pytest.mark.long
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("name", ["gsm8k", "coqa_turns", "xsum_rouge"])
def test_texts_of_stories_are_those_of_lm_eval(name: str, use_cache: bool, stories: Both, files: Path, tmp_path: Path) -> None:
    assert_as_harness(stories, [Ablation(blocks={1}), Ablation(blocks={3})], name, files, tmp_path, 10, 40, use_cache=use_cache)


@pytest.fixture(scope="module")
def smollm2() -> Both:
    """Both in fp32, in which the texts are compared."""
    return both_of_smollm2(torch.float32)


TWO = [Ablation(blocks={10}), Ablation(blocks={20})]
MOST = 96
PROMPTS = {"gsm8k_cot": 20, "xsum_rouge": 20, "coqa_turns": 10}
written_by_smollm2 = pytest.mark.parametrize(("name", "ablation"), [(name, a) for name in PROMPTS for a in (Ablation(), *TWO)])


class Ours:
    """What SmolLM2 writes here, once for all tests of a task: the eight examples of gsm8k_cot are read once for all its prompts."""

    def __init__(self, both: Both, files: Path, folder: Path) -> None:
        self.both, self.files, self.folder = both, files, folder
        self.study = cache(self._study)

    def data(self, name: str) -> Path:
        return self.files if name == "coqa_turns" else shared("bench/gsm8k").parent

    def _study(self, name: str) -> WrittenTaskStudy:
        tasks = load_tasks(name, limit=PROMPTS[name], data=self.data(name))
        return WrittenTaskStudy.of(self.both.model, TWO, tasks, most=MOST)

    def texts(self, name: str) -> np.ndarray:
        return self.study(name).writing.texts(self.folder / name)

    def of(self, name: str, ablation: Ablation) -> np.ndarray:
        return self.texts(name)[self.study(name).plan.ablations.index(ablation)]


@pytest.fixture(scope="module")
def ours(smollm2: Both, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Ours:
    return Ours(smollm2, files, tmp_path_factory.mktemp("written_by_smollm2"))


@pytest.mark.long
@written_by_smollm2
def test_texts_of_smollm2_are_those_of_lm_eval(name: str, ablation: Ablation, smollm2: Both, ours: Ours) -> None:
    theirs = harness_texts(smollm2, ablation, name, ours.data(name), PROMPTS[name], max_gen_toks=MOST)
    assert_same(ours.of(name, ablation), theirs, ours.study(name).writing.prompts, logits_of(smollm2, ablation))


@pytest.mark.long
@written_by_smollm2
def test_texts_of_smollm2_are_those_without_a_cache(name: str, ablation: Ablation, smollm2: Both, ours: Ours) -> None:
    """CoQA's by lm_eval itself; prompts of hundreds of tokens, which it would read again for each new one, in one pass a text."""
    if name == "coqa_turns":
        theirs = harness_texts(smollm2, ablation, name, ours.data(name), PROMPTS[name], use_cache=False, max_gen_toks=MOST)
        assert_same(ours.of(name, ablation), theirs, ours.study(name).writing.prompts, logits_of(smollm2, ablation))
    assert_likeliest(ours.of(name, ablation), ours.study(name).writing.prompts, logits_of(smollm2, ablation))


@pytest.mark.long
@pytest.mark.parametrize("name", ["gsm8k_cot", "coqa_turns"])
def test_stops_are_reached(name: str, ours: Ours) -> None:
    """So that where texts are cut is compared too."""
    assert ended_by_a_stop(ours.texts(name)) > 0.1


@pytest.mark.long
@pytest.mark.parametrize(("name", "limit", "most"), [("gsm8k_cot", 20, 96), ("xsum_rouge", 20, 96), ("coqa_turns", 10, 96)])
@pytest.mark.parametrize("source", ["zoo-rwkv7-0", "zoo-rwkv5-0"])
def test_texts_of_rwkv_are_those_of_the_package(source: str, name: str, limit: int, most: int, files: Path, tmp_path: Path) -> None:
    """Without examples, for its context holds 256 tokens; two blocks are really deleted, each alone."""
    data = files if name == "coqa_turns" else shared("bench/gsm8k").parent
    model, chosen = load(source, device="cpu", dtype="float32"), [Ablation(blocks={3}), Ablation(blocks={7})]
    study = WrittenTaskStudy.of(model, chosen, load_tasks(name, shots=0, limit=limit, data=data), most=most)
    found = study.writing.texts(tmp_path / "run")
    prompts, end = study.writing.prompts, Endings(model)
    for ours, ablation in zip(found, study.plan.ablations, strict=True):
        store = Source.of(source, model.spec).without(ablation.blocks)
        weights = {key: store.read(key).float() for key in store.shapes}
        tokens = package_tokens(weights, [prompt.tokens for prompt in prompts], most, tmp_path)
        theirs = [Said(written_by(model, end, new, prompt), new) for new, prompt in zip(tokens, prompts, strict=True)]
        assert_same(ours, theirs, prompts, lambda ids, ablation=ablation: model.run(ids, ablation))


def written_by(model: BlockModel, end: Endings, tokens: list[int], prompt: Prompt) -> str:
    """The text of tokens up to one that ends it, and up to the first stop string."""
    ends = [i for i, token in enumerate(tokens) if token in end.ids]
    assert model.tokenizer is not None
    text = model.tokenizer.decode(tokens[: ends[0]] if ends else tokens)
    return min((text.split(stop)[0] for stop in prompt.until), key=len, default=text)
