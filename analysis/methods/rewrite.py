"""What a method makes of a model: a checkpoint where the architecture stays as it is, else sizes and losses alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.ablation import NONE, Ablation
from adapters.base import BlockModel
from adapters.block import Block
from adapters.checkpoints.export import Source
from adapters.errors import StrataError, unknown
from adapters.roles import ROLES
from analysis.checkpoints.cuts import Cut
from analysis.checkpoints.prune import Loss, PruningJob, measure_loss
from analysis.checkpoints.prune import Method as Made
from analysis.data.batches import Text, batches
from analysis.methods.method import Method, Solved, calibration_for, require, solve
from analysis.methods.table import METHODS


def rewriting(methods: Mapping[str, Method] = METHODS) -> list[str]:
    """Methods whose results stock loaders hold, but for those that remove blocks, which an order does."""
    return [name for name, method in methods.items() if method.stock and method.floats]


def in_memory(methods: Mapping[str, Method] = METHODS) -> list[str]:
    """Methods whose results no file holds."""
    return [name for name, method in methods.items() if not method.stock]


def require_stock(name: str, blocks: str | None = None) -> None:
    """Raises StrataError on a method whose result no stock loader holds, an unknown one, and on blocks that were given."""
    method = METHODS.get(name)
    if method and not method.stock:
        raise StrataError(
            f"no stock loader holds what {method.title} makes (widths that differ from block to block, or weights that the "
            "architecture does not have), so that nothing can be written to `out`: without `out` it is measured in memory"
        )
    if not method or not method.floats:
        raise unknown("method", name, [*rewriting(), *in_memory()])
    if blocks is not None:
        raise StrataError(f"`method` {name} finds its blocks itself: give `n` or `ratio` in the place of `blocks`")


def rewrite(model: BlockModel, source: Source, text: Text, name: str, count: int) -> PruningJob:
    """The model with `count` blocks fewer by a method of `rewriting`, and what that costs.

    New weights are rounded to the dtype of the files first: what is measured is what is written. `text` is held-out;
    calibration text is taken from the same corpus. Raises StrataError on a model that the method cannot prune.
    """
    method = METHODS[name]
    require(method, model)
    calibration = calibration_for(model, text)
    made = method.prune(model, list(batches(calibration.windows(model), model)), count)
    kept = bases(model, made)
    stored = dtype_of(source)
    pairs = [(block.weights, model.blocks[i].weights) for block, i in zip(made.blocks, kept, strict=True)]
    rounded = [{role: t.to(stored) for role, t in new.items() if t is not old[role]} for new, old in pairs]
    made = made.with_blocks([_with(block, weights) for block, weights in zip(made.blocks, rounded, strict=True)])
    changed = {key: t.cpu() for key, t in source.layout.write({}, rounded).items()}
    removed = Ablation(blocks=frozenset(range(len(model.blocks))) - frozenset(kept))
    loss = measure_loss(model, (NONE, removed), text, made)
    return PruningJob(model, source, None, text, calibration, loss, Cut(made, changed, {}, False), Made(method.title, count))


def dtype_of(source: Source) -> torch.dtype:
    """Of what the files hold of block 0's outputs, whatever its mixer is."""
    outputs = (slot.key.format(i=0, h=0) for role, slot in source.layout.block.items() if ROLES[role].output)
    return source.store.read(next(key for key in outputs if key in source.store.shapes)).dtype


@dataclass(frozen=True)
class InMemory:
    """A pruned model that no file holds."""

    model: BlockModel  # the dense one
    method: str  # its title
    solved: Solved
    loss: Loss  # dense and pruned

    @property
    def record(self) -> dict[str, Any]:
        """What is known of it, as JSON."""
        rise, loss = self.loss.rises[-1], self.loss
        specs = {"dense": self.model.spec, "pruned": self.solved.model.spec}
        met = {name: spec.active_params for name, spec in specs.items()}
        return {
            "model": self.model.spec.name,
            "method": {"name": self.method, "level": self.solved.level},
            "removed": self.solved.size._asdict(),
            "parameters": {name: spec.n_params for name, spec in specs.items()},
            **({"experts": {"active_parameters": met}} if self.model.spec.has_experts else {}),
            "loss": {"dense": loss.dense.value, "pruned": loss.pruned.value, "rise": rise._asdict(), "n_documents": len(loss.tokens)},
        }


def measure(model: BlockModel, text: Text, name: str, target: float) -> InMemory:
    """What a method of `in_memory` leaves of a model, and what that costs; `target` is the share of the block parameters that goes.

    `text` is held-out; calibration text is taken from the same corpus. Raises StrataError as `solve` and the method do.
    """
    method = METHODS[name]
    solved = solve(method, model, list(batches(calibration_for(model, text).windows(model), model)), target)
    return InMemory(model, method.title, solved, measure_loss(model, (NONE, NONE), text, solved.model))


def bases(model: BlockModel, made: BlockModel) -> list[int]:
    """The dense block that each block of `made` comes from: the one whose norms on the stream it shares."""
    norms = {id(t): i for i, block in enumerate(model.blocks) for role, t in block.weights.items() if ROLES[role].norm}
    return [next(norms[id(t)] for t in block.weights.values() if id(t) in norms) for block in made.blocks]


def _with(block: Block, weights: dict[str, Tensor]) -> Block:
    return block.with_weights(block.weights | {role: t.to(block.weights[role].dtype) for role, t in weights.items()})
