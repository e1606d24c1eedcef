"""Checks of many edges in one call, and of texts that go on from a past."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapters.action import KEEP, Action
from adapters.base import BlockModel
from adapters.block import BlockPast
from adapters.contract.tools import LENGTHS, TIME, Recorder, assert_close, token_ids, variants
from adapters.specs import BlockSpec

CUTS = (17, 3, 19)  # where each row is cut in two


def check_edges(model: BlockModel) -> None:
    """Many edges in one call give what each gives alone."""
    x, ctx = variants(model)
    for i in range(len(model.blocks)):
        edges = _edges(model.spec.blocks[i])
        together = model.advance(i, x, ctx, edges).x.unflatten(0, (-1, ctx.documents))
        for (variant, action), found in zip(edges, together, strict=True):
            alone = model.advance(i, x.unflatten(0, (-1, ctx.documents))[variant], ctx, [(0, action)])
            assert_close(found, alone.x)


def check_distinct_rows(model: BlockModel) -> None:
    """The mixer sees each variant once, the ffn each pair of variant and mixer action once, or each variant where it runs
    in parallel with the mixer; what is skipped, or is not there, is not run."""
    x, ctx = variants(model)
    for i, block in enumerate(model.blocks):
        recorder = Recorder(block)
        recording = model.with_blocks([*model.blocks[:i], recorder, *model.blocks[i + 1 :]])
        edges = _edges(block.spec)
        recording.advance(i, x, ctx, edges)
        spec = block.spec
        mixed = {v for v, action in edges if spec.has_mixer and action.mixer}
        fed = {v if spec.parallel else (v, spec.has_mixer and action.mixer, action.heads) for v, action in edges if action.ffn}
        runs = [[ctx.documents * len(found)] if there else [] for found, there in ((mixed, spec.has_mixer), (fed, spec.has_ffn))]
        assert [recorder.mixed, recorder.fed] == runs
        recording.advance(i, x, ctx, [(0, Action(mixer=False, ffn=False))])
        assert [recorder.mixed, recorder.fed] == runs, "a block that is out was run"


def check_cut_in_two(model: BlockModel) -> None:
    """A text cut at any place and continued through its past gives the logits of the whole."""
    ids, cuts, lengths = token_ids(model), torch.tensor(CUTS), torch.tensor(LENGTHS)
    whole = model.run(ids)
    first, past = _continue(model, _shift(ids, torch.zeros_like(cuts)), cuts)
    middle = (lengths - cuts) // 2 + 1
    second, past = _continue(model, _shift(ids, cuts), middle, cuts, past)
    third, _ = _continue(model, _shift(ids, cuts + middle), lengths - cuts - middle, cuts + middle, past)
    for row, (cut, mid, length) in enumerate(zip(CUTS, middle.tolist(), LENGTHS, strict=True)):
        pieces = (first[row, :cut], second[row, :mid], third[row, : length - cut - mid])
        assert_close(torch.cat(pieces), whole[row, :length])


def check_past_of_edges(model: BlockModel) -> None:
    """The past of a call continues with the same edges."""
    x, ctx = variants(model)
    edges, cut = _edges(model.spec.blocks[1]), TIME // 2
    whole = model.advance(1, x, ctx, edges).x
    ids = token_ids(model)
    _, head = model.begin(ids[:, :cut])
    _, tail = model.begin(ids[:, cut:], start=torch.full((len(ids),), cut, device=model.device))
    first = model.advance(1, x[:, :cut], head, edges)
    second = model.advance(1, x[:, cut:], tail, edges, first.past)
    assert_close(torch.cat([first.x, second.x], 1), whole)


def check_past_rows(model: BlockModel) -> None:
    """`Past.rows` moves and repeats rows: a prompt read once serves many continuations."""
    ids, cuts = token_ids(model), torch.tensor(CUTS)
    index = torch.tensor([2, 0, 2, 1])
    _, past = _continue(model, _shift(ids, torch.zeros_like(cuts)), cuts)
    moved = [BlockPast(*(p.rows(index.to(model.device)) if p is not None else None for p in block)) for block in past]
    time = min(n - cut for n, cut in zip(LENGTHS, CUTS, strict=True))
    found, _ = _continue(model, _shift(ids, cuts)[index.to(model.device), :time], None, cuts[index], moved)
    whole = model.run(ids)
    for row, source in enumerate(index.tolist()):
        assert_close(found[row], whole[source, CUTS[source] : CUTS[source] + time])


def _edges(spec: BlockSpec) -> list[tuple[int, Action]]:
    """Edges with repeats, in an order that no table would have."""
    heads = Action(heads=frozenset({0})) if spec.n_heads else KEEP
    some = [Action(mixer=v < 2, experts=frozenset(range(n))) for v, n in ((0, 1), (1, 2), (2, 1))] if spec.n_experts else []
    return [
        *[(v, action) for v, action in enumerate(some)],
        *[(0, action) for action in some],
        (2, Action(mixer=False)),
        (0, KEEP),
        (0, heads),
        (0, heads._replace(ffn=False)),
        (0, KEEP),
        (1, Action(ffn=False)),
        (1, KEEP),
        (2, Action(mixer=False, ffn=False)),
        (2, Action(mixer=False)),
    ]


def _continue(
    model: BlockModel, ids: Tensor, lengths: Tensor | None, start: Tensor | None = None, past: Sequence[BlockPast] | None = None
) -> tuple[Tensor, list[BlockPast]]:
    """Logits of `ids` behind `past`, and the new past of every block."""
    lengths, start = (None if t is None else t.to(model.device) for t in (lengths, start))
    x, ctx = model.begin(ids if lengths is None else ids[:, : int(lengths.max())], lengths=lengths, start=start)
    after = []
    for i in range(len(model.blocks)):
        step = model.advance(i, x, ctx, [(0, KEEP)], past[i] if past else None)
        x = step.x
        after.append(step.past)
    return model.logits(x), after


def _shift(ids: Tensor, by: Tensor) -> Tensor:
    """Row r from its token `by[r]` on; what runs over the end is padding."""
    return torch.stack([row.roll(-int(n)) for row, n in zip(ids, by, strict=True)])
