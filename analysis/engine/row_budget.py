"""Prompts, which of them are decoded together, and how many rows memory holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.memory import default_memory, megabytes
from analysis.engine.pasts import past_of_blocks
from analysis.engine.sampling import Sampling

ROWS = {"cpu": 192, "cuda": 1024}  # that are read together: a CPU's products are at their best from 64 on
LOGIT = {False: 4, True: 4 + 6 * 8}  # bytes: in float32; a sampled token's probabilities in float64, in order, summed and cut off
PARTS = 3  # of the rows, at least: ablations of so many prompts are read together, and those of the next come as the first end
SHARED = 64  # tokens from which on a beginning that prompts share is read once for them


class Prompt(NamedTuple):
    """Token ids, and where the text behind them ends: behind `most` tokens, or with one of the strings `until`."""

    tokens: tuple[int, ...]
    most: int
    until: tuple[str, ...] = ()
    sampling: Sampling = Sampling()


def chunks(prompts: Sequence[Prompt]) -> Iterator[tuple[list[int], int]]:
    """Numbers of prompts that are decoded together, and how many tokens they share that are read once for them.

    Prompts that share no long beginning with another are one chunk, the longest first, since their rows are as long as the longest.
    """
    order = sorted(range(len(prompts)), key=lambda n: prompts[n].tokens)
    found: list[tuple[list[int], int]] = []
    for n in order:
        tokens = prompts[n].tokens
        same = _common(prompts[found[-1][0][0]].tokens[: found[-1][1]], tokens[:-1]) if found else 0
        if found and same >= SHARED and 2 * same >= found[-1][1]:
            found[-1] = ([*found[-1][0], n], same)
        else:
            found.append(([n], len(tokens) - 1))
    yield from (chunk for chunk in found if len(chunk[0]) > 1)
    alone = [numbers[0] for numbers, _ in found if len(numbers) == 1]
    if alone:
        yield sorted(alone, key=lambda n: -len(prompts[n].tokens)), 0


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def rows_within(memory: int | None, model: BlockModel, n_ablations: int, prompts: Sequence[Prompt], start: int) -> tuple[int, int]:
    """How many ablations are decoded together, and how many rows, in `memory` bytes: those of prompts that share `start` tokens.

    Raises StrataError when not even one row fits.
    """
    allowed = memory or default_memory(model.device)
    longest = max(len(prompt.tokens) - start + prompt.most for prompt in prompts)
    row, beginning = row_bytes(model, prompts, start), beginning_bytes(model, start)
    if row + beginning > allowed:
        raise StrataError(
            f"decoding needs {megabytes(row + beginning)} for one text of {start + longest} tokens, {megabytes(allowed)} are "
            f"{'free for it' if memory is None else 'allowed'}: give it more memory, shorter prompts or fewer new tokens"
        )
    most = rows_of(model.device)
    together = min(n_ablations, most, int(allowed // (row + beginning)))
    return together, max(together, min(most, int((allowed - together * beginning) // row)))


def ablations_within(memory: int | None, model: BlockModel, n_ablations: int, prompts: Sequence[Prompt]) -> int:
    """How many ablations of all are decoded together, so that rows of others come as theirs end. Raises StrataError as `rows_within`."""
    refilled = max(1, rows_of(model.device) // PARTS)
    fit = [rows_within(memory, model, n_ablations, [prompts[n] for n in numbers], start)[0] for numbers, start in chunks(prompts)]
    return min([refilled, *fit])


def row_bytes(model: BlockModel, prompts: Sequence[Prompt], start: int = 0) -> int:
    """Of the longest row: its past, that of its prompt once more, from which it is made, and what its next token is chosen from."""
    fixed, each = past_bytes(model)
    longest = max(len(prompt.tokens) - start + prompt.most for prompt in prompts)
    chosen = max(bool(prompt.sampling.temperature) for prompt in prompts)
    return 2 * fixed + (longest + max(len(prompt.tokens) - start for prompt in prompts)) * each + LOGIT[chosen] * model.spec.vocab_size


def beginning_bytes(model: BlockModel, start: int) -> int:
    """Of the first `start` tokens of prompts that share them, for one ablation."""
    fixed, each = past_bytes(model)
    return fixed + start * each if start else 0


def at_most(model: BlockModel, n_ablations: int, prompts: Sequence[Prompt], memory: int | None = None) -> tuple[int, int]:
    """Passes through the blocks that decoding takes at most, and bytes of pasts and logits, were every text as long as it may be.

    Raises StrataError as `rows_within`.
    """
    passes = held = 0
    for numbers, start in chunks(prompts):
        these = [prompts[n] for n in numbers]
        size, rows = rows_within(memory, model, n_ablations, these, start)
        for first in range(0, n_ablations, size):
            passes += _passes([prompt.most for prompt in these], rows // min(size, n_ablations - first)) + (start > 0)
        held = max(held, size * beginning_bytes(model, start) + min(rows, size * len(these)) * row_bytes(model, these, start))
    return passes, held


def _passes(most: Sequence[int], together: int) -> int:
    """Of texts of at most so many tokens, `together` at once: a pass reads prompts, which gives the first token of each, or one token more.

    Where prompts wait, each may be read alone, with a step behind it; in all other steps as many as fit go on, until none waits.
    """
    longest = max(most)
    return longest if len(most) <= together else 2 * len(most) + sum(n - 1 for n in most) // together + longest - 1


def rows_of(device: torch.device) -> int:
    return ROWS.get(device.type, ROWS["cpu"])


def past_bytes(model: BlockModel) -> tuple[int, int]:
    """What all blocks keep of a row beside its tokens, and of each token."""
    fixed, each = zip(*past_of_blocks(model), strict=True)
    return sum(fixed), sum(each)
