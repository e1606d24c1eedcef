"""LLM-Pruner (Ma et al., arXiv 2305.11627): heads and ffn channels go in groups, ranked within each block by first-order Taylor.

The salience of a weight w is |w * dL/dw|, L the mean nll of all calibration tokens together (the published code's default,
`param_first`). A group's is the sum over its weights: the rows of q, k and v and the columns of o of a head, where query heads
share one with the key-value head that they read; the rows of gate and up and the column of down of an ffn channel. The first and
the last blocks stay whole.

Under grouped queries the published code adds the salience of query head h to key-value head h mod n_kv_heads, where query head h
reads key-value head h // (n_heads / n_kv_heads), so that it judges a group by the queries of others, and then takes out the
group's own. `llm_pruner` adds it to the one that is read, `llm_pruner_published` as that code does. Where each query head has
keys of its own, or all have the same, they are one method. Channels of the ffn are the same in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.base import BlockModel
from adapters.block import Block
from adapters.decoder import DecoderBlock
from adapters.errors import StrataError
from adapters.roles import shapes_by_role, spec_of
from adapters.specs import BlockSpec, ModelSpec
from analysis.data.batches import Batch
from analysis.engine.tokens import counted, wide
from analysis.methods.decoders import decoder_blocks, shapes
from analysis.methods.method import Level, Method, Size, size
from analysis.removal.delete_heads import delete_heads

KEPT = ((4, 8), (2, 16))  # in front and behind: so many blocks at most, one in so many; at least one
LARGEST = 0.9  # ratio; something stays of every block
HEADS = {"q": 1, "k": 1, "v": 1, "o": 0}  # roles of a head group, and the axis that their salience is summed along
CHANNELS = {"gate": 1, "up": 1, "down": 0}  # the same of ffn channels
ROWS = {"gate": 0, "up": 0, "gate_bias": 0, "up_bias": 0, "down": 1}  # axis along which a role has an entry for each ffn channel


class Salience(NamedTuple):
    """Of the groups of one block."""

    heads: Tensor  # (n_kv_heads,)
    channels: Tensor  # (d_ffn,)


def cut_blocks(model: BlockModel) -> range:
    """Blocks that are cut: 4 to 29 of 32 as published. Of fewer, an eighth stays in front and a sixteenth behind, at least one."""
    n = len(model.blocks)
    front, behind = (min(most, max(1, round(n / share))) for most, share in KEPT)
    return range(front, n - behind)


def saliences(model: BlockModel, batches: Sequence[Batch], blocks: Sequence[int], *, as_published: bool = False) -> list[Salience]:
    """Of the groups of `blocks`, from the gradient of the mean nll of all tokens of `batches` but the first of each document.

    `as_published`: query heads count for the key-value head that the published code adds them to, not for the one that they read.
    Batches go one by one: memory is that of a training step on one of them. Raises StrataError when there is no token to
    predict, and on a salience that is not finite.
    """
    tokens, name = sum(int((batch.lengths - 1).sum()) for batch in batches), model.spec.name
    if tokens < 1:
        raise StrataError("LLM-Pruner takes gradients on calibration text, and there is none: give at least one document of two tokens")
    whole = decoder_blocks(model, LLM_PRUNER)
    with torch.inference_mode(False), torch.enable_grad():
        leaves = {
            (i, role): whole[i].weights[role].detach().requires_grad_()
            for i in blocks
            for role in HEADS | CHANNELS
            if role in whole[i].weights
        }
        own = [{role: t for (j, role), t in leaves.items() if i == j} for i in range(len(whole))]
        tracked = model.with_blocks([replace(b, weights=b.weights | w) for b, w in zip(whole, own, strict=True)])
        gradients = [wide(torch.zeros_like(t)) for t in leaves.values()]
        for batch in batches:
            found = torch.autograd.grad(_nll(tracked, batch) / tokens, list(leaves.values()))
            gradients = [total + part for total, part in zip(gradients, found, strict=True)]
    products = {place: (wide(w.detach()) * g).abs() for (place, w), g in zip(leaves.items(), gradients, strict=True)}
    sums = [
        Salience(
            torch.stack([_by_group(products[i, role].sum(axis), whole[i].spec, as_published) for role, axis in HEADS.items()]).sum(0),
            torch.stack([products[i, role].sum(axis) for role, axis in CHANNELS.items() if (i, role) in products]).sum(0),
        )
        for i in blocks
    ]
    for i, salience in zip(blocks, sums, strict=True):
        if not all(torch.isfinite(t).all() for t in salience):
            raise StrataError(f"the salience of block {i} of {name} is not finite: look for damaged weights, or use a wider dtype")
    return sums


def _by_group(channels: Tensor, spec: BlockSpec, as_published: bool) -> Tensor:
    """Sums (n_kv_heads,) over channels of queries, keys or values (heads * head_dim,)."""
    n = spec.n_kv_heads
    heads = channels.unflatten(0, (-1, spec.head_dim)).sum(1)  # (n_heads or n_kv_heads,)
    return heads.unflatten(0, (-1, n)).sum(0) if as_published else heads.unflatten(0, (n, -1)).sum(1)


def _nll(model: BlockModel, batch: Batch) -> Tensor:
    """Sum over the tokens that are predicted: all real ones but the first of each document."""
    ids, lengths = batch.ids.to(model.device), batch.lengths.to(model.device)
    scored = counted(ids, lengths, False)[:, 1:]
    return F.cross_entropy(wide(model.run(ids, lengths=lengths)[:, :-1][scored]), ids[:, 1:][scored], reduction="sum")


def cut(block: DecoderBlock, salience: Salience, ratio: float) -> Block:
    """The block without its least salient groups: `ratio` of the channels of the ffn, and of those of the keys in whole heads."""
    spec, w = block.spec, block.weights
    channels = salience.channels.argsort(stable=True)[_removed(spec.d_ffn, ratio) :].sort().values
    left = w | {role: w[role].index_select(axis, channels.to(w[role].device)) for role, axis in ROWS.items() if role in w}
    fed = replace(block, spec=spec_of(shapes_by_role(left), spec.n_heads, parallel=spec.parallel), weights=left)

    n_kv_heads, of_group = len(salience.heads), len(w["q"]) // len(w["k"])
    head_dim = len(w["k"]) // n_kv_heads
    groups = salience.heads.argsort(stable=True)[: _removed(n_kv_heads * head_dim, ratio) // head_dim].tolist()
    heads = [group * of_group + i for group in groups for i in range(of_group)]
    return delete_heads(fed, heads) if heads else fed


def _removed(channels: int, ratio: float) -> int:
    """As published: what stays is rounded down."""
    return channels - int(channels * (1 - ratio))


def prune(model: BlockModel, batches: Sequence[Batch], ratio: Level, *, as_published: bool = False) -> BlockModel:
    """The model with narrower blocks. Raises StrataError on other models, on a ratio that leaves nothing, and as `saliences` does."""
    blocks = _cuttable(model, ratio)
    return _cut_all(model, dict(zip(blocks, saliences(model, batches, blocks, as_published=as_published), strict=True)), ratio)


def count(model: BlockModel, ratio: Level) -> Size:
    """What pruning takes out, from shapes."""
    alike = {i: Salience(torch.zeros(spec.n_kv_heads or 0), torch.zeros(spec.d_ffn)) for i, spec in enumerate(model.spec.blocks)}
    return size(model, _cut_all(shapes(model, LLM_PRUNER), {i: alike[i] for i in _cuttable(model, ratio)}, ratio))


def _cut_all(model: BlockModel, found: dict[int, Salience], ratio: float) -> BlockModel:
    blocks = decoder_blocks(model, LLM_PRUNER)
    return model.with_blocks([cut(block, found[i], ratio) if i in found else block for i, block in enumerate(blocks)])


def _cuttable(model: BlockModel, ratio: float) -> range:
    """`cut_blocks`, when there are some and `ratio` leaves something of them."""
    blocks, name, n = cut_blocks(model), model.spec.name, len(decoder_blocks(model, LLM_PRUNER))
    if not blocks:
        raise StrataError(f"LLM-Pruner keeps the first and the last block, and {name} has {n}: use a deeper model")
    if not 0 <= ratio <= LARGEST:
        raise StrataError(f"a ratio of {ratio:g} is given: LLM-Pruner takes the share of a block that goes, from 0 to {LARGEST:g}")
    return blocks


def levels(model: BlockModel) -> Sequence[Level]:
    """Ratios in steps of half a percent; none when no block is cut."""
    return [step / 200 for step in range(1, 181)] if cut_blocks(model) else []


def grouped(spec: ModelSpec) -> bool:
    """Whether the two forms differ: several query heads share keys, and not all of them the same."""
    return any(1 < (block.n_kv_heads or 1) < (block.n_heads or 1) for block in spec.blocks)


def lacks(model: BlockModel) -> str:
    fits = all({"q", "up"} <= block.weights.keys() and not getattr(block, "joint_heads", False) for block in model.blocks)
    return "" if fits else "attention whose heads work one by one, and no experts"


LLM_PRUNER = Method("LLM-Pruner", "2305.11627", prune, levels, count, stock=False, lacks=lacks)
LLM_PRUNER_PUBLISHED = replace(LLM_PRUNER, title="LLM-Pruner (its published code)", prune=partial(prune, as_published=True))
