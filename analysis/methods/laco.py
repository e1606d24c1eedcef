"""LaCo (Yang et al., arXiv 2402.11187): neighbouring blocks collapse into one while the last hidden states stay alike.

From the last blocks down, a block takes in the C - 1 behind it; the merge is kept when the cosine of all last hidden states
(behind the final norm, flattened over tokens, the mean over documents) with those of the ORIGINAL model is above a threshold.
The norms on the stream stay those of the block that takes in, everything else is merged. Two modes:
`official`, what the published notebooks compute: w_l becomes w_{l+m}, the weights of the last block that is taken in;
`eq1`, the paper's equation: w_l + sum over k of (w_{l+k} - w_l).

The level is the number of blocks that go. The threshold at which so many go is found by bisection in steps of 0.01: the highest
one wherever a lower threshold takes out no fewer blocks, which is the rule but no law. The last merge takes in no more blocks
than are asked for. What is left is then what the published loop has made at that threshold when it has taken out as many. Its
INTERVAL is 1 here, as in the notebooks: whether a merge is kept or not, the next one begins a block further down.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.base import BlockModel
from adapters.block import Block
from adapters.errors import StrataError
from adapters.roles import ROLES
from analysis.data.batches import Batch
from analysis.engine.tokens import require_finite
from analysis.methods.method import Level, Method, Remembered, first_documents, without_last

DOCUMENTS, TOKENS = 5, 128  # whose hidden states are compared, and of how many tokens of each: as few snippets as in the notebooks
THRESHOLDS = [step / 100 for step in range(99, -101, -1)]


class Layer(NamedTuple):
    """A block of the result: whose norms it has, and how often each block's weights are in it."""

    norms: int
    weights: tuple[tuple[int, int], ...]  # (block, coefficient), by block


def official(layers: Sequence[Layer]) -> Layer:
    return Layer(layers[0].norms, layers[-1].weights)


def eq1(layers: Sequence[Layer]) -> Layer:
    total: dict[int, int] = {}
    for place, layer in enumerate(layers):
        times = 1 if place else 2 - len(layers)
        for block, n in layer.weights:
            total[block] = total.get(block, 0) + times * n
    return Layer(layers[0].norms, tuple(sorted((block, n) for block, n in total.items() if n)))


MODES: Mapping[str, Callable[[Sequence[Layer]], Layer]] = {"official": official, "eq1": eq1}


class Collapsed(NamedTuple):
    """What is left, and the threshold at which so little is."""

    layers: tuple[Layer, ...]
    threshold: float


def merge_width(n_blocks: int) -> int:
    """C, blocks that become one: 4 of 32, as in the paper for Llama-2-7B, fewer of fewer and never more.

    The rule is ours. The notebooks set C by hand for each model: 7 for Llama-13B and 3 for Baichuan-13B, of 40 blocks both.
    """
    return max(2, min(4, n_blocks // 8))


def descend(n_blocks: int, low: int, most: int, merge: Callable, accept: Callable[[tuple[Layer, ...]], bool]) -> tuple[Layer, ...]:
    """The notebooks' loop over `n_blocks`, down to block `low`, until `most` blocks are gone; `accept` judges each candidate."""
    width, layers = merge_width(n_blocks), tuple(Layer(i, ((i, 1),)) for i in range(n_blocks))
    for at in range(n_blocks - 1 - width, low - 1, -1):
        if not (left := most - (n_blocks - len(layers))):
            break
        end = min(at + width, at + 1 + left, len(layers))
        candidate = (*layers[:at], merge(layers[at:end]), *layers[end:])
        if accept(candidate):
            layers = candidate
    return layers


def lowest(model: BlockModel) -> int:
    """The first block that may take others in. RWKV-7's block 0 lacks weights that the others have."""
    return int(len(model.blocks) > 1 and set(model.blocks[0].weights) != set(model.blocks[1].weights))


def counts(model: BlockModel) -> Sequence[int]:
    """How many blocks can go: up to what is left when every merge is kept."""
    n = len(model.blocks)
    return range(1, n - len(descend(n, lowest(model), n, official, lambda candidate: True)) + 1)


def collapsed(model: BlockModel, layers: Sequence[Layer]) -> BlockModel:
    """The model of `layers`; weights are shared where they are those of one block."""
    return model.with_blocks([_block(model, layer) for layer in layers])


def _block(model: BlockModel, layer: Layer) -> Block:
    base = model.blocks[layer.norms]
    if layer.weights == ((layer.norms, 1),):
        return base
    return base.with_weights({role: t if ROLES[role].norm else _sum(model, role, layer) for role, t in base.weights.items()})


def _sum(model: BlockModel, role: str, layer: Layer) -> Tensor:
    terms = [(model.blocks[i].weights[role], n) for i, n in layer.weights]
    if len(terms) == 1 and terms[0][1] == 1:
        return terms[0][0]
    total = torch.stack([t.double() * n for t, n in terms]).sum(0)
    return total.to(terms[0][0].dtype)


@dataclass(frozen=True)
class Similarity:
    """How alike the last hidden states of a model of `layers` and of the original are: each is measured once."""

    model: BlockModel
    batches: Sequence[Batch]

    @cached_property
    def found(self) -> dict[tuple[Layer, ...], float]:
        return {}

    @cached_property
    def original(self) -> list[Tensor]:
        return self._states(self.model)

    def __call__(self, layers: tuple[Layer, ...]) -> float:
        if layers not in self.found:
            pairs = zip(self._states(collapsed(self.model, layers)), self.original, strict=True)
            cosines = torch.stack([F.cosine_similarity(a, b, 0) for a, b in pairs])  # (documents,)
            require_finite(cosines, f"LaCo's similarity for {self.model.spec.name}")
            self.found[layers] = float(cosines.mean())
        return self.found[layers]

    @torch.inference_mode()
    def _states(self, model: BlockModel) -> list[Tensor]:
        """Of each document its tokens' last hidden states in one vector (tokens * d), in fp64."""
        states = []
        for batch in self.batches:
            ids, lengths = batch.ids.to(model.device), batch.lengths.to(model.device)
            h = model.norm(model.stream(ids, lengths=lengths))
            states += [row[:n].double().flatten() for row, n in zip(h, batch.lengths.tolist(), strict=True)]
        return states


@Remembered
def similarity_on(model: BlockModel, batches: Sequence[Batch]) -> Similarity:
    """On the first DOCUMENTS documents, the first TOKENS tokens of each."""
    few = first_documents(batches, DOCUMENTS)
    return Similarity(model, [b._replace(ids=b.ids[:, :TOKENS], lengths=b.lengths.clamp(max=TOKENS)) for b in few])


@Remembered
def collapse(model: BlockModel, batches: Sequence[Batch], count: int, mode: str) -> Collapsed:
    """Merges until `count` blocks are gone. Raises StrataError when there are no documents or the loop cannot take out so many."""
    if not batches:
        raise StrataError("LaCo compares hidden states on calibration text, and there is none: give at least one document")
    if count not in (valid := counts(model)):
        raise StrataError(
            f"LaCo takes 1 to {max(valid, default=0)} of the {len(model.blocks)} blocks of {model.spec.name} out, not {count}"
        )
    similarity = similarity_on(model, batches)
    n, low = len(model.blocks), lowest(model)

    def at(threshold: float) -> tuple[Layer, ...]:
        return descend(n, low, count, MODES[mode], lambda candidate: similarity(candidate) > threshold)

    threshold = THRESHOLDS[bisect_left(THRESHOLDS, count, key=lambda t: n - len(at(t)))]
    return Collapsed(at(threshold), threshold)


def prune(mode: str, model: BlockModel, batches: Sequence[Batch], level: Level) -> BlockModel:
    return collapsed(model, collapse(model, batches, int(level), mode).layers)


def note(mode: str, model: BlockModel, batches: Sequence[Batch], level: Level) -> str:
    """Costs nothing after `prune`, whose search is remembered."""
    return f"C {merge_width(len(model.blocks))}, threshold {collapse(model, batches, int(level), mode).threshold:g}"


def lacks(model: BlockModel) -> str:
    """Weights are summed with those of other blocks: experts of two have no order in common, and blocks of a hybrid other weights."""
    hybrid = len({frozenset(block.weights) for block in model.blocks[lowest(model) :]}) > 1
    return "blocks without experts" if model.spec.has_experts else "blocks of one kind" if hybrid else ""


def method(mode: str, title: str) -> Method:
    return Method(title, "2402.11187", partial(prune, mode), counts, without_last, stock=True, note=partial(note, mode), lacks=lacks)


LACO = method("official", "LaCo")
LACO_EQ1 = method("eq1", "LaCo (its equation)")
