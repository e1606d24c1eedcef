"""Generation through the past, against running the whole text again for every token, against one ablation at a time, and transformers."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import PreTrainedModel

from adapters import NONE, Ablation, BlockModel, StrataError
from adapters.checkpoints.export import remove_blocks
from adapters.contract import Recorder
from adapters.families.rwkv.tokenizers import ByteTokenizer
from adapters.means import Means
from analysis.engine import row_budget
from analysis.engine.ablations import single_ablations
from analysis.engine.decoding import Prompt, Written, decode, generate
from analysis.engine.mean_ablation import with_means
from analysis.engine.plan import plan
from analysis.engine.row_budget import chunks, past_bytes
from analysis.engine.sampling import Sampling
from tests.reference import variants
from tests.reference.models import pair

IDS = torch.randint(3, 97, (2, 6), generator=torch.Generator().manual_seed(0))
ABLATIONS = [NONE, Ablation(blocks=frozenset({0})), Ablation(mixers=frozenset({1}), ffns=frozenset({2}))]


def uncached(model: BlockModel, ids: torch.Tensor, n: int, ablation: Ablation) -> torch.Tensor:
    for _ in range(n):
        ids = torch.cat([ids, model.run(ids, ablation)[:, -1:].argmax(-1)], 1)
    return ids[:, -n:]


@pytest.mark.parametrize("ablation", ABLATIONS, ids=str)
@pytest.mark.parametrize("variant", ["llama", *variants.VARIANTS])
def test_cached_generation_is_uncached_generation(variant: str, ablation: Ablation) -> None:
    model = pair("llama")[0] if variant == "llama" else variants.model(variant)
    assert torch.equal(generate(model, IDS, 7, ablation), uncached(model, IDS, 7, ablation))


@pytest.mark.parametrize("variant", ["llama", *variants.VARIANTS])
def test_deleted_blocks_generate_as_ablated_ones(variant: str) -> None:
    model = pair("llama")[0] if variant == "llama" else variants.model(variant)
    assert torch.equal(generate(model.with_blocks(model.blocks[1:]), IDS, 7), generate(model, IDS, 7, ABLATIONS[1]))


@pytest.mark.parametrize("variant", ["llama", *variants.VARIANTS])
def test_cached_generation_of_a_pruned_model_without_block_0(variant: str) -> None:
    """RWKV-7 as its checkpoint is read: rerooted."""
    model = remove_blocks(pair("llama")[0] if variant == "llama" else variants.model(variant), [0])
    assert torch.equal(generate(model, IDS, 7), uncached(model, IDS, 7, NONE))


def test_generation_of_transformers() -> None:
    model, reference = pair("qwen3")
    expected = reference.generate(IDS, max_new_tokens=7, min_new_tokens=7, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert torch.equal(generate(model, IDS, 7), expected[:, 6:])


def reading(model: BlockModel, **changes: object) -> BlockModel:
    """The model with a tokenizer of bytes, of which none ends a text."""
    other = copy.copy(model)
    for name, value in {"tokenizer": ByteTokenizer(), "end_tokens": (), **changes}.items():
        setattr(other, name, value)
    return other


def some(seed: int, n: int, vocab: int = 97) -> tuple[int, ...]:
    return tuple(torch.randint(3, vocab, (n,), generator=torch.Generator().manual_seed(seed)).tolist())


LONG = some(0, 9)  # a beginning that is read once
PROMPTS = [Prompt(LONG + some(1, 4), 9), Prompt(LONG + some(2, 7), 5), Prompt(LONG + some(2, 7), 8), Prompt(LONG + some(2, 5), 9)]
PROMPTS += [Prompt(some(3, 2), 7), Prompt(some(4, 11), 9), Prompt(some(5, 1), 3)]


def kinds(model: BlockModel) -> list[str]:
    return ["blocks", "mixers", "ffns", *(["heads"] if model.spec.has_heads else [])]


def written(model: BlockModel, chosen: list[Ablation], prompts: list[Prompt] = PROMPTS, **options) -> dict[tuple[int, int], Written]:
    found = list(decode(model, plan(model.spec, chosen), prompts, **options))
    by_place = {(w.ablation, w.prompt): w for w in found}
    assert len(by_place) == len(found) == len(prompts) * len(plan(model.spec, chosen).ablations)
    return by_place


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beginnings of eight tokens are shared, and ten rows live at once: they are renewed often, and ablations come in parts."""
    monkeypatch.setattr(row_budget, "SHARED", 8)
    monkeypatch.setitem(row_budget.ROWS, "cpu", 10)


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("variant", ["llama", "qwen3", *variants.VARIANTS])
def test_all_ablations_at_once_write_what_each_writes_alone(variant: str) -> None:
    model = reading(pair(variant)[0] if variant in ("llama", "qwen3") else variants.model(variant))
    chosen = [*single_ablations(model.spec, kinds(model))[::2], Ablation(blocks={0}, mixers={1}), Ablation(blocks={0, 1, 2})]
    assert {len(numbers) for numbers, start in chunks(PROMPTS) if start} == {4}
    for (a, p), found in written(model, chosen).items():
        ids = torch.tensor([PROMPTS[p].tokens])
        expected = generate(model, ids, PROMPTS[p].most, plan(model.spec, chosen).ablations[a])
        assert (found.tokens, found.why) == (expected[0].tolist(), "length")


def test_parts_that_leave_their_means_behind() -> None:
    model, _ = pair()
    shape = model.spec.blocks[0]
    generator = torch.Generator().manual_seed(0)
    sizes = ((shape.n_heads or 0, shape.head_dim or 0), (model.spec.d_model,), (model.spec.d_model,))
    model = reading(with_means(model, [Means(*(torch.randn(size, generator=generator) for size in sizes)) for _ in model.blocks]))
    chosen = single_ablations(model.spec, kinds(model), ["mean"])[::3]
    for (a, p), found in written(model, chosen).items():
        expected = generate(model, torch.tensor([PROMPTS[p].tokens]), PROMPTS[p].most, plan(model.spec, chosen).ablations[a])
        assert found.tokens == expected[0].tolist()


def without(reference: PreTrainedModel, block: int) -> PreTrainedModel:
    """transformers' model with a block deleted."""
    other = copy.deepcopy(reference)
    del other.model.layers[block]
    for i, layer in enumerate(other.model.layers):
        layer.self_attn.layer_idx = i
    other.config.num_hidden_layers -= 1
    return other


@pytest.mark.parametrize("use_cache", [True, False])
def test_transformers_without_each_block(use_cache: bool) -> None:
    model, reference = pair()
    model = reading(model)
    found = written(model, single_ablations(model.spec, ["blocks"]))
    models = [reference, *(without(reference, i) for i in range(len(model.blocks)))]
    for (a, p), text in found.items():
        ids, most = torch.tensor([PROMPTS[p].tokens]), PROMPTS[p].most
        options = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None, "use_cache": use_cache}
        expected = models[a].generate(ids, max_new_tokens=most, min_new_tokens=most, **options)
        assert text.tokens == expected[0, ids.shape[1] :].tolist()


@pytest.mark.usefixtures("few_rows")
def test_what_is_shared_is_read_once() -> None:
    """Tokens that go through a block which no ablation changes: a beginning, what prompts have beside it, and what is written."""
    model = reading(pair()[0])
    recording = model.with_blocks([Tokens(block) for block in model.blocks])
    prompts = [Prompt(LONG + some(n, 4), 3) for n in range(3)]
    found = written(recording, [Ablation(blocks={2})], prompts)
    measured = 1 + 2  # what a row takes is found with two short texts
    assert sum(recording.blocks[0].mixed) == measured + 9 + 3 * 4 + sum(len(w.tokens) - 1 for w in found.values())


class Tokens(Recorder):
    def mix(self, x: torch.Tensor, *more):
        out = super().mix(x, *more)
        self.mixed[-1] *= x.shape[1]
        return out


def test_a_text_ends_with_a_token_a_string_or_its_length() -> None:
    model = reading(pair()[0])
    prompt = Prompt(some(3, 2), 12)
    whole = written(model, [], [prompt])[0, 0]
    assert (whole.why, len(whole.tokens), whole.text) == ("length", 12, bytes(whole.tokens).decode(errors="replace"))
    fourth = whole.tokens[3]
    n = whole.tokens.index(fourth) + 1
    ended = written(reading(model, end_tokens=(fourth,)), [], [prompt])[0, 0]
    assert (ended.why, ended.tokens) == ("end", whole.tokens[:n])
    stop = bytes(whole.tokens[4:6]).decode(errors="replace")
    n = bytes(whole.tokens).decode(errors="replace").index(stop)
    stopped = written(model, [], [prompt._replace(until=("never", stop))])[0, 0]
    assert (stopped.why, stopped.text, stopped.tokens) == ("stop", whole.text[:n], whole.tokens[: n + 2])


def test_sampled_text_depends_on_its_prompt_and_seed_alone() -> None:
    model = reading(pair()[0])
    chosen = single_ablations(model.spec, ["blocks"])

    def texts(prompts: list[Prompt], seed: int) -> list[list[int]]:
        sampled = [prompt._replace(sampling=Sampling(0.9, 0.95, 40, seed)) for prompt in prompts]
        found = written(model, chosen, sampled)
        return [found[a, p].tokens for p in range(len(prompts)) for a in range(len(chosen) + 1)]

    some_texts = texts(PROMPTS[:3], 1)
    assert some_texts == texts(PROMPTS, 1)[: len(some_texts)]
    assert some_texts != texts(PROMPTS[:3], 2)


def test_memory_is_counted_in_rows() -> None:
    model = reading(pair()[0])
    spec = model.spec.blocks[0]
    each = 2 * len(model.blocks) * (spec.n_kv_heads or 0) * (spec.head_dim or 0) * 4
    assert past_bytes(model)[1] == each
    chosen = single_ablations(model.spec, ["blocks", "heads"])
    whole = written(model, chosen, PROMPTS[:2])
    row = past_bytes(model)[0] + (2 * len(PROMPTS[1].tokens) + PROMPTS[1].most) * each + 4 * model.spec.vocab_size
    assert {k: w.tokens for k, w in written(model, chosen, PROMPTS[:2], memory=2 * row).items()} == {k: w.tokens for k, w in whole.items()}
    with pytest.raises(StrataError, match="decoding needs 0 MB for one text of 22 tokens"):
        written(model, chosen, PROMPTS[:2], memory=row - 1 - each)


def test_bad_input_is_refused() -> None:
    model, work = reading(pair()[0]), plan(pair()[0].spec, [])
    refused = {
        "gsm8k:3 has 60 tokens and asks for 5 new ones, and .* reads 64": (model, Prompt((5,) * 60, 5)),
        "has 0 tokens": (model, Prompt((), 5)),
        "a stop string is empty": (model, Prompt((5,), 5, ("",))),
        "comes without a tokenizer": (reading(model, tokenizer=None), Prompt((5,), 5)),
        r"changes what the model writes \(repetition_penalty 1.2\)": (reading(model, alters=("repetition_penalty 1.2",)), Prompt((5,), 5)),
    }
    for message, (reader, prompt) in refused.items():
        with pytest.raises(StrataError, match=message):
            list(decode(reader, work, [prompt], names=["gsm8k:3"]))


def test_a_stream_that_is_not_finite_names_block_and_prompt() -> None:
    model = reading(pair()[0])
    broken = model.with_blocks(list(model.blocks))
    broken.weights = model.weights | {"embed": model.weights["embed"].clone()}
    broken.weights["embed"][written(model, [], PROMPTS[:1])[0, 0].tokens[2]] = float("inf")
    with pytest.raises(StrataError, match="after block 0 in document coqa:1"):
        list(decode(broken, plan(model.spec, []), PROMPTS[:1], names=["coqa:1"]))
