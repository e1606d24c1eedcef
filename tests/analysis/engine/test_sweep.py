"""A sweep gives what the naive loop gives, runs nothing twice, and holds no more than it was allowed."""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from adapters import NONE, Ablation, BlockModel, StrataError, load
from adapters.block import Block, Context
from adapters.contract import Recorder
from analysis.engine.ablations import single_ablations
from analysis.engine.decoding import generate
from analysis.engine.pieces import PIECES
from analysis.engine.plan import Plan, plan
from analysis.engine.sweep import call_bytes, documents_per_batch, room_for, stream_bytes, sweep
from tests.reference.ablations import ablations
from tests.reference.count import ffn_runs, mixer_runs
from tests.reference.models import pair
from tests.reference.naive import naive_nll, without
from tests.shared_data import shared

LENGTHS = torch.tensor([19, 7, 2, 12])
ODD = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10, "attention_bias": True, "mlp_bias": True}
MODELS = {
    "llama-odd": ("llama", ODD),
    "llama-tied": ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "qwen2": ("qwen2", {"num_hidden_layers": 4}),
    "qwen3": ("qwen3", {"head_dim": 6}),
}
SETS = [
    Ablation(blocks={0, 2}),
    Ablation(blocks={0}, mixers={1}, heads={(2, 0), (2, 3)}),
    Ablation(ffns={0, 1, 2}),
    Ablation(mixers={0, 1, 2}, heads={(0, 1)}),
    Ablation(heads={(0, h) for h in range(4)} | {(2, 1)}, ffns={2}),
]


def tokens(vocab: int = 97, documents: int = 4, time: int = 19) -> Tensor:
    return torch.randint(vocab, (documents, time), generator=torch.Generator().manual_seed(1))


def everything(model: BlockModel) -> Plan:
    return plan(model.spec, [*single_ablations(model.spec, ["blocks", "mixers", "ffns", "heads"]), *SETS])


def largest_error(model: BlockModel, reference: PreTrainedModel, p: Plan, ids: Tensor, lengths: Tensor) -> float:
    """Of the mean nll of a document, over all ablations and documents."""
    found = sweep(model, p, ids, lengths, kl=False)["nll"]
    reference, worst = copy.deepcopy(reference).double(), 0.0
    for a, ablation in enumerate(p.ablations):
        for d, length in enumerate(lengths.tolist()):
            expected = naive_nll(reference, ids[d : d + 1, :length], ablation)
            worst = max(worst, abs(float(found[a, d] - expected.sum())) / (length - 1))
    return worst


@pytest.mark.parametrize("name", MODELS)
def test_equals_the_naive_loop(name: str) -> None:
    """Every single part and sets of them, on texts of four lengths: the naive loop reads them one by one, without padding."""
    model_type, config = MODELS[name]
    model, reference = pair(model_type, **config)
    assert largest_error(model, reference, everything(model), tokens(), LENGTHS) < 1e-5


def test_equals_the_naive_loop_on_a_trained_model(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path))
    file = shared("models/stories260K/stories260K.gguf")
    cfg = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    cfg.pad_token_id = None  # the header's is out of range
    reference = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, config=cfg, dtype=torch.float32).eval()
    model = load(file, device="cpu")
    assert model.tokenizer is not None
    text = "Once upon a time, there was a little girl named Lily. She loved to play with her toys in the park."
    ids = torch.tensor([[1, *model.tokenizer.encode(text).ids]])
    ids, lengths = torch.cat([ids, ids.flip(1)]), torch.tensor([ids.shape[1], 17])
    assert largest_error(model, reference, everything(model), ids, lengths) < 1e-5
    assert sweep(model, plan(model.spec, []), ids, lengths)["nll"][0, 0] / (lengths[0] - 1) < 2, "a trained model reads a story"


@settings(max_examples=15)
@given(chosen=ablations(3, 6))
def test_random_sets_equal_the_naive_loop(chosen: list[Ablation]) -> None:
    model, reference = pair(**ODD)
    assert largest_error(model, reference, plan(model.spec, chosen), tokens(documents=2), LENGTHS[:2]) < 1e-5


def test_padding_changes_nothing() -> None:
    model, _ = pair(**ODD)
    p, ids = everything(model), tokens()
    together = sweep(model, p, ids, LENGTHS)
    padding = torch.arange(19) >= LENGTHS[:, None]
    for filler in (0, 96):
        for name, sums in sweep(model, p, ids.masked_fill(padding, filler), LENGTHS).items():
            assert torch.equal(sums, together[name])
    for d, length in enumerate(LENGTHS.tolist()):
        alone = sweep(model, p, ids[d : d + 1, :length])
        for name, sums in alone.items():
            assert torch.allclose(sums[:, 0], together[name][:, d], rtol=1e-6, atol=1e-5), name


def test_a_document_of_one_token_scores_nothing() -> None:
    model, _ = pair()
    found = sweep(model, plan(model.spec, []), tokens(time=3), torch.tensor([1, 3, 1, 2]))
    assert found["nll"][0, [0, 2]].tolist() == [0, 0]
    assert (found["nll"][0, [1, 3]] > 0).all()


@torch.no_grad()
def test_kl_equals_a_loop_in_fp64() -> None:
    model, reference = pair(**ODD)
    p, ids = everything(model), tokens()
    found = sweep(model, p, ids, LENGTHS)["kl"]
    for d, length in enumerate(LENGTHS.tolist()):
        row = ids[d : d + 1, :length]
        dense = reference(row).logits[0, :-1].double().log_softmax(-1)
        for a, ablation in enumerate(p.ablations):
            ablated = without(reference, ablation)(row, use_cache=False).logits[0, :-1].double().log_softmax(-1)
            expected = sum(math.exp(x) * (x - y) for p_row, q_row in zip(dense, ablated, strict=True) for x, y in pairs(p_row, q_row))
            assert float(found[a, d]) / (length - 1) == pytest.approx(expected / (length - 1), rel=1e-5, abs=1e-5)


def pairs(a: Tensor, b: Tensor) -> zip:
    return zip(a.tolist(), b.tolist(), strict=True)


@pytest.mark.parametrize("rows", [1, 3, 50, 1000])
@pytest.mark.parametrize("logits", [1, 700, 10**6])
def test_logits_in_blocks_of_any_size_give_the_same_sums(rows: int, logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One token or several variants at once; one word of the vocabulary or all."""
    model, _ = pair()
    p = everything(model)
    whole = sweep(model, p, tokens(), LENGTHS)
    monkeypatch.setitem(PIECES, "cpu", PIECES["cpu"]._replace(rows=rows, block=4 * logits, reference=4 * logits))
    for name, sums in sweep(model, p, tokens(), LENGTHS).items():
        assert torch.allclose(sums, whole[name], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("size", [1, 19, 100, 500])
def test_calls_of_any_size_give_the_same_sums(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that share a call do not see each other. The branches of one stream always share one."""
    model, _ = pair()
    p = everything(model)
    whole = sweep(model, p, tokens(), LENGTHS)
    monkeypatch.setitem(PIECES, "cpu", PIECES["cpu"]._replace(tokens=size))
    recording = model.with_blocks([Recorder(b) for b in model.blocks])
    for name, sums in sweep(recording, p, tokens(), LENGTHS).items():
        assert torch.allclose(sums, whole[name], rtol=1e-6, atol=1e-5)
    assert rows(recording) == (4 * p.mixer_rows, 4 * p.ffn_rows)
    calls = [n for block in recording.blocks for n in block.fed]
    assert max(calls) * 19 <= max(size, p.branches * 4 * 19)


def rows(model: BlockModel) -> tuple[int, int]:
    return sum(sum(b.mixed) for b in model.blocks), sum(sum(b.fed) for b in model.blocks)


@cache
def unlimited(chosen: tuple[Ablation, ...]) -> dict[str, Tensor]:
    model, _ = pair(num_hidden_layers=4)
    return sweep(model, plan(model.spec, chosen), tokens(documents=2), LENGTHS[:2])


@settings(max_examples=40)
@given(chosen=ablations(4, 4), extra=st.integers(0, 12), kl=st.booleans())
def test_memory_changes_neither_rows_nor_scores(chosen: list[Ablation], extra: int, kl: bool) -> None:
    """From the least memory on: the same numbers, nothing run twice, and never more streams alive than allowed."""
    model, _ = pair(num_hidden_layers=4)
    model = model.with_blocks([Recorder(b) for b in model.blocks])
    p, ids = plan(model.spec, chosen), tokens(documents=2)
    limit = p.minimum + extra
    memory = limit * stream_bytes(model, *ids.shape) + call_bytes(model, p, *ids.shape)
    with Watch(model, ids) as watch:
        found = sweep(model, p, ids, LENGTHS[:2], kl=kl, memory=memory, progress=watch.progress)
    for name, sums in found.items():
        assert torch.allclose(sums, unlimited(tuple(chosen))[name], rtol=1e-6, atol=1e-5)
    assert 2 <= watch.most <= limit
    mixers, ffns = rows(model)
    again = 4 if kl and replace(p, dense_first=True).minimum > limit else 0  # one dense pass of its own, to compare with
    assert mixers == 2 * (mixer_runs(4, chosen) + again)
    assert ffns == 2 * (ffn_runs(4, chosen) + again)


class Watch:
    """Counts the streams that are alive at every call of a block and of the head, and when a block is done with some.

    What the call itself was given is no stream that is held; what it has given is gone when progress is told.
    """

    def __init__(self, model: BlockModel, ids: Tensor) -> None:
        self.shape, self.stream, self.most = (ids.shape[1], model.spec.d_model), ids.numel() * model.spec.d_model * 4, 0
        for name, argument in (("advance", 1), ("norm", 0)):
            setattr(model, name, self._counting(getattr(model, name), argument))

    def __enter__(self) -> Watch:
        gc.collect()
        gc.freeze()  # so that only tensors made from now on are looked at
        return self

    def __exit__(self, *error: object) -> None:
        gc.unfreeze()

    def progress(self, streams: int) -> None:
        self.most = max(self.most, self._alive())

    def _counting(self, method: Callable, argument: int) -> Callable:
        def call(*args, **kwargs):
            self.most = max(self.most, self._alive(args[argument]))
            return method(*args, **kwargs)

        return call

    def _alive(self, *given: Tensor) -> int:
        found = [
            x.untyped_storage() for x in gc.get_objects() if issubclass(type(x), Tensor) and x.dim() >= 3 and x.shape[-2:] == self.shape
        ]
        storages = {s.data_ptr(): s.nbytes() for s in found}
        for x in given:
            storages.pop(x.untyped_storage().data_ptr(), None)
        return math.ceil(sum(storages.values()) / self.stream)


def test_less_memory_means_smaller_pieces_down_to_the_least_streams() -> None:
    model, _ = pair(num_hidden_layers=4)
    p, ids = everything(model), tokens()
    streams, pieces = p.minimum * stream_bytes(model, *ids.shape), PIECES["cpu"]
    whole = sweep(model, p, ids)
    for _ in range(11):
        memory = streams + call_bytes(model, p, *ids.shape, pieces)
        assert room_for(memory, model, p, *ids.shape).streams == p.minimum
        limited = sweep(model, p, ids, memory=memory)
        assert all(torch.allclose(whole[name], limited[name], rtol=1e-6, atol=1e-5) for name in whole)
        pieces = pieces.halved()
    with pytest.raises(StrataError, match=r"needs [\d,]+ MB for 4 documents of 19 tokens at once"):
        sweep(model, p, ids, memory=streams)


def test_heads_of_a_large_model_stay_inside_the_memory() -> None:
    """32 blocks of 32 heads, a thousand branches, with memory for one in eight of them."""
    model, _ = pair(num_hidden_layers=32, hidden_size=64, num_attention_heads=32, num_key_value_heads=32, intermediate_size=48)
    model = model.with_blocks([Recorder(b) for b in model.blocks])
    p, ids = plan(model.spec, single_ablations(model.spec, ["heads"])), tokens(documents=1, time=4)
    limit = 128
    assert p.minimum <= limit < p.widest
    memory = limit * stream_bytes(model, *ids.shape) + call_bytes(model, p, *ids.shape)
    with Watch(model, ids) as watch:
        found = sweep(model, p, ids, kl=False, memory=memory, progress=watch.progress)
    assert watch.most <= limit
    assert rows(model) == (15_904, 16_928)
    assert found["nll"].shape == (1025, 1)
    assert found["nll"].isfinite().all()


def test_kl_with_less_memory_than_finishing_the_dense_model_first_takes() -> None:
    """Blocks one by one: to finish the dense model first, all its branches must wait."""
    model, _ = pair(num_hidden_layers=8)
    model = model.with_blocks([Recorder(b) for b in model.blocks])
    p, ids = plan(model.spec, single_ablations(model.spec, ["blocks"])), tokens()
    assert p.minimum == 4 < replace(p, dense_first=True).minimum
    memory = 4 * stream_bytes(model, *ids.shape) + call_bytes(model, p, *ids.shape)
    with Watch(model, ids) as watch:
        limited = sweep(model, p, ids, memory=memory, progress=watch.progress)
    assert watch.most == 4
    assert rows(model) == (4 * (p.mixer_rows + 8), 4 * (p.ffn_rows + 8))
    for name, sums in sweep(model, p, ids).items():
        assert torch.allclose(limited[name], sums, rtol=1e-6, atol=1e-5)
    assert limited["kl"][0].abs().max() < 1e-4
    assert limited["kl"][1:].min() > 0.01


@pytest.mark.parametrize("kind", ["blocks", "heads"])
def test_a_batch_is_as_large_as_memory_allows(kind: str) -> None:
    """All its streams fit; one document more would not, or would fill more than half a call."""
    model, _ = pair()
    p = plan(model.spec, single_ablations(model.spec, [kind]))

    call = max(call_bytes(model, p, n, 19) for n in range(1, 27))

    def needs(n: int) -> int:
        return call_bytes(model, p, n, 19) + p.widest * stream_bytes(model, n, 19)

    for memory in range(2 * call, needs(26), call // 8):
        n = documents_per_batch(model, p, 19, memory)
        assert needs(n) <= memory
        assert needs(n + 1) > memory or n == PIECES["cpu"].tokens // 38
    assert documents_per_batch(model, p, 19, 1 << 40) == PIECES["cpu"].tokens // 38
    assert documents_per_batch(model, p, 5000, 1 << 40) == 1


def test_progress_counts_every_stream_that_leaves_a_block() -> None:
    model, _ = pair()
    p, steps = everything(model), list[int]()
    sweep(model, p, tokens(), LENGTHS, progress=steps.append)
    assert sum(steps) == sum(level.streams for level in p.levels[1:]) + len(p.ablations)


@pytest.mark.parametrize("role", ["q", "down", "ffn_norm"])
def test_not_a_number_names_block_and_document(role: str) -> None:
    model, _ = pair()
    broken = model.with_blocks(list(model.blocks))
    weights = dict(broken.blocks[1].weights)
    weights[role] = weights[role].clone()
    weights[role].view(-1)[5] = float("nan")
    broken.blocks = [broken.blocks[0], replace(broken.blocks[1], weights=weights), broken.blocks[2]]
    with pytest.raises(StrataError, match=r"is not finite after block 1 in document alpha \(out: dense; float32\)"):
        sweep(broken, everything(model), tokens(), LENGTHS, names=["alpha", "beta", "gamma", "delta"])


def test_not_a_number_in_one_document_only() -> None:
    model, _ = pair()
    broken = model.with_blocks(list(model.blocks))
    broken.weights = model.weights | {"embed": model.weights["embed"].clone()}
    broken.weights["embed"][50] = float("inf")
    ids = tokens() % 50
    ids[2, 0] = 50
    with pytest.raises(StrataError, match="after block 0 in document 2 "):
        sweep(broken, everything(model), ids, LENGTHS)


def test_not_a_number_that_only_an_ablation_meets() -> None:
    model, _ = pair()
    ids, chosen, streams = tokens(), [Ablation(mixers={0}), Ablation(ffns={0})], list[Tensor]()
    model.stream(ids, chosen[1], tap=lambda i, parts: streams.append(parts.x_mid))
    broken = model.with_blocks([model.blocks[0], Overflowing(model.blocks[1], streams[1]), model.blocks[2]])
    with pytest.raises(StrataError, match=r"after block 1 in document 0 \(out: ffns 0; float32\)"):
        sweep(broken, plan(model.spec, chosen), ids)


class Overflowing(Recorder):
    """A block that gives inf on one stream."""

    def __init__(self, block: Block, stream: Tensor) -> None:
        super().__init__(block)
        self.stream = stream

    def ffn(self, x: Tensor, ctx: Context, past: None = None) -> tuple[Tensor, None]:
        delta, past = self.block.ffn(x, ctx, past)
        distance = (x.unflatten(0, (-1, ctx.documents)) - self.stream[: ctx.documents, : x.shape[1]]).abs().amax((-1, -2))
        return delta.masked_fill((distance < 1e-3).flatten()[:, None, None], float("inf")), past


def test_damage_in_the_head_is_told() -> None:
    model, _ = pair()
    broken = model.with_blocks(list(model.blocks))
    broken.weights = model.weights | {"unembed": torch.full_like(model.weights["unembed"], float("nan"))}
    with pytest.raises(StrataError, match="not finite after the unembedding in document 0"):
        sweep(broken, plan(model.spec, []), tokens())


def test_bfloat16_gives_sums_in_fp64() -> None:
    """The sums over tokens are exact although every stream has eight bits."""
    model, _ = pair(dtype="bfloat16")
    exact, _ = pair()
    p, ids = everything(model), tokens(documents=8, time=40)
    found = sweep(model, p, ids)
    assert {s.dtype for s in found.values()} == {torch.float64}
    for a in (0, 1, 7):
        logits = model.run(ids, p.ablations[a])[:, :-1].double()
        expected = -logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).sum((1, 2))
        assert torch.allclose(found["nll"][a], expected, rtol=0.003), "what is left is the order of rows in bfloat16 products"
    dense = sweep(exact, p, ids)
    assert torch.allclose(found["nll"], dense["nll"], rtol=0.1)
    assert not torch.allclose(found["nll"], dense["nll"], rtol=1e-5), "else it was not run in bfloat16"


def test_dense_alone() -> None:
    model, reference = pair()
    found = sweep(model, plan(model.spec, []), tokens())
    assert torch.allclose(found["nll"][0], naive_nll(reference, tokens(), NONE).sum(1), rtol=1e-6)
    assert found["kl"].abs().max() < 1e-5


def test_a_plan_of_another_model_is_refused() -> None:
    model, ids = pair()[0], torch.tensor([[1, 2, 3]])
    short = model.with_blocks(model.blocks[:2])
    with pytest.raises(StrataError, match=r"the plan is of .* with 3 blocks, .* has 2"):
        sweep(short, plan(model.spec, []), ids)
    one = replace(model.spec, blocks=tuple(replace(b, n_heads=9) for b in model.spec.blocks))
    with pytest.raises(StrataError, match="head 8 of block 0 is out of range"):
        sweep(model, plan(one, [Ablation(heads={(0, 8)})]), ids)


@pytest.mark.parametrize("out", [Ablation(blocks={3}), Ablation(heads={(1, 9)}), Ablation(ffns={-1})])
def test_nothing_runs_an_ablation_that_does_not_exist(out: Ablation) -> None:
    model, ids = pair()[0], torch.tensor([[1, 2, 3]])
    for run in (model.run, model.stream, lambda ids, out: generate(model, ids, 1, out)):
        with pytest.raises(StrataError, match="is out of range"):
            run(ids, out)
