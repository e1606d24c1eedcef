"""A tree of prompts gives what reading each prompt by itself gives, and reads every token of the tree once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters import Ablation, BlockModel, StrataError
from adapters.contract import Recorder
from analysis.engine.ablations import single_ablations
from analysis.engine.pasts import past_of_blocks
from analysis.engine.pieces import PIECES
from analysis.engine.plan import plan
from analysis.engine.prompts import Prompts
from analysis.engine.text_scores import score_bytes
from analysis.engine.tree import Tree
from analysis.tasks import likelihoods as likelihoods_module
from analysis.tasks.likelihoods import batches, likelihoods
from analysis.tasks.requests import Request, tree_size
from tests.reference import variants
from tests.reference.ablations import ablations
from tests.reference.models import pair
from tests.reference.pairs import Pair
from tests.reference.variants import VARIANTS


class Counter(Recorder):
    """Counts tokens, not rows."""

    def mix(self, x: Tensor, *more):
        out = super().mix(x, *more)
        self.mixed[-1] *= x.shape[1]
        return out

    def ffn(self, x: Tensor, *more):
        out = super().ffn(x, *more)
        self.fed[-1] *= x.shape[1]
        return out


def prefixes(requests: list[Request], max_len: int) -> int:
    """The size of the token tree, by its definition: how many different beginnings the inputs have."""
    return len({r.inputs(max_len)[:n] for r in requests for n in range(1, len(r.inputs(max_len)) + 1)})


def questions(seed: int = 0, vocab: int = 97) -> list[Request]:
    """Two subjects with a long common beginning, five questions each, three options each of one to four tokens."""
    generator = torch.Generator().manual_seed(seed)

    def some(low: int, high: int, vocab: int = vocab) -> tuple[int, ...]:
        n = int(torch.randint(low, high + 1, (), generator=generator))
        return tuple(torch.randint(vocab, (n,), generator=generator).tolist())

    requests = []
    for prefix in (some(9, 9), some(12, 12)):
        for _ in range(5):
            context = prefix + some(1, 8, vocab=3)
            requests += [Request(context, some(1, 4)) for _ in range(3)]
    return requests


@torch.inference_mode()
def one_by_one(model: BlockModel, ablation: Ablation, request: Request) -> tuple[float, bool]:
    ids = torch.tensor([request.context + request.continuation])[:, -(model.spec.max_len + 1) :]
    logp = model.run(ids[:, :-1], ablation).double().log_softmax(-1)[0, -len(request.continuation) :]
    tokens = torch.tensor(request.continuation)
    return float(logp.gather(-1, tokens[:, None]).sum()), bool((logp.argmax(-1) == tokens).all())


def assert_equal_one_by_one(model: BlockModel, chosen: list[Ablation], requests: list[Request], **options) -> None:
    work = plan(model.spec, chosen)
    found = likelihoods(model, work, requests, **options)
    for a, ablation in enumerate(work.ablations):
        for r, request in enumerate(requests):
            nats, greedy = one_by_one(model, ablation, request)
            assert abs(nats - float(found.nats[a, r])) / len(request.continuation) < 1e-5
            assert greedy == bool(found.greedy[a, r])


def test_every_family_reads_the_tree_as_it_reads_each_prompt(both: Pair) -> None:
    model = both.model
    kinds = ["blocks", "mixers", "ffns"] + ["heads"] * (model.spec.blocks[0].n_heads is not None)
    assert_equal_one_by_one(model, single_ablations(model.spec, kinds)[::2], questions(vocab=model.spec.vocab_size)[:9])


@pytest.mark.parametrize("variant", VARIANTS)
def test_baichuan_and_rwkv_read_the_tree_as_they_read_each_prompt(variant: str) -> None:
    assert_equal_one_by_one(variants.model(variant), [Ablation(blocks={0}), Ablation(mixers={1}), Ablation(ffns={2})], questions()[:9])


token = st.integers(0, 2)
request = st.builds(Request, st.lists(token, min_size=1, max_size=6).map(tuple), st.lists(token, min_size=1, max_size=3).map(tuple))


@settings(max_examples=15)
@given(chosen=ablations(3, 4, most=5), requests=st.lists(request, min_size=1, max_size=8))
def test_any_requests_and_any_ablations(chosen: list[Ablation], requests: list[Request]) -> None:
    """Requests that repeat, that begin others, that share nothing."""
    model, _ = pair()
    assert_equal_one_by_one(model, chosen, requests)


def test_tokens_through_the_blocks_are_the_size_of_the_tree() -> None:
    model, _ = pair()
    recording = model.with_blocks([Counter(b) for b in model.blocks])
    work, requests = plan(model.spec, single_ablations(model.spec, ["blocks", "mixers", "ffns", "heads"])), questions()
    past_of_blocks(recording)  # measures, once
    for block in recording.blocks:
        block.mixed.clear()
        block.fed.clear()
    likelihoods(recording, work, requests)
    size = prefixes(requests, model.spec.max_len)
    assert tree_size(requests, model.spec.max_len) == size
    assert sum(sum(b.mixed) for b in recording.blocks) == size * work.mixer_rows
    assert sum(sum(b.fed) for b in recording.blocks) == size * work.ffn_rows
    assert size < sum(len(r.inputs(64)) for r in requests) / 3


def test_neither_memory_nor_the_size_of_calls_changes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = pair()
    work, requests = plan(model.spec, single_ablations(model.spec, ["blocks", "heads"])), questions()
    whole = likelihoods(model, work, requests)
    stream = tree_size(requests, 64) * model.spec.d_model * 4
    tree = Tree()
    for request in requests:
        tree.add(request.inputs(64))
    call = Prompts(model, tree, work.branches).call_bytes(len(work.ablations)) + score_bytes(model, 1000, PIECES["cpu"])
    limited = likelihoods(model, work, requests, memory=work.minimum * stream + call)
    monkeypatch.setitem(PIECES, "cpu", PIECES["cpu"]._replace(past=20_000, rows=3, block=400))
    small = likelihoods(model, work, requests)
    for other in (limited, small):
        assert torch.allclose(other.nats, whole.nats, atol=1e-5)
        assert torch.equal(other.greedy, whole.greedy)
    monkeypatch.undo()
    with pytest.raises(StrataError, match="MB for a tree of"):
        likelihoods(model, work, requests, memory=work.minimum * stream)


def test_what_is_too_long_is_cut_on_the_left() -> None:
    model, _ = pair()
    long = Request(tuple(range(90)), (5, 6, 7))
    assert (long.is_cut(64), len(long.inputs(64))) == (True, 64)
    assert not Request(tuple(range(60)), (1, 2, 3, 4, 5)).is_cut(64)
    assert_equal_one_by_one(model, [], [long, Request(tuple(range(62)), (5, 6, 7))])
    with pytest.raises(StrataError, match=r"asks for 65 tokens at once, .* reads 64"):
        likelihoods(model, plan(model.spec, []), [Request((1,), tuple(range(65)))])
    with pytest.raises(StrataError, match="request piqa:3 has no continuation"):
        likelihoods(model, plan(model.spec, []), [Request((1,), ())], names=["piqa:3"])


def test_a_damaged_model_names_block_and_request() -> None:
    model, _ = pair()
    broken = model.with_blocks(list(model.blocks))
    broken.weights = model.weights | {"embed": model.weights["embed"].clone()}
    broken.weights["embed"][5] = float("inf")
    with pytest.raises(StrataError, match="after block 0 in document b "):
        likelihoods(broken, plan(model.spec, []), [Request((1,), (2,)), Request((7, 5), (2,))], names=["a", "b"])


def test_batches_hold_whole_documents_and_cover_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = pair()
    requests = questions()
    documents = [requests[i : i + 3] for i in range(0, len(requests), 3)]
    work = plan(model.spec, [])
    assert list(batches(model, work, documents)) == [slice(0, 10)]
    for most in (1, 30, 60):
        monkeypatch.setitem(likelihoods_module.BATCH_TOKENS, "cpu", most)
        found = list(batches(model, work, documents))
        assert [d for where in found for d in range(where.start, where.stop)] == list(range(10))
        for where in found:
            flat = [r for document in documents[where] for r in document]
            assert where.stop - where.start == 1 or tree_size(flat, 64) <= most
    assert list(batches(model, work, [])) == []
