"""Generation: what a model writes without single parts and as blocks are removed (paper, section 5 and Figure 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from adapters.ablation import NONE
from adapters.base import BlockModel
from adapters.specs import ModelSpec
from analysis.data.batches import batches, tokenizer_of
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from analysis.generation import benchmarks
from analysis.generation.results import Generation
from analysis.removal.orders import ORDERS, Calibration
from analysis.removal.paths import RemovalPath
from analysis.runs.budgets import Takes
from analysis.runs.settings import RunConfig, progress_fraction, run_folder
from analysis.runs.sweep_run import SweepStudy, sweep_table
from analysis.runs.writing import WritingStudy
from analysis.writing.study import beginnings
from analysis.writing.table import dense_losses, writing_table

if TYPE_CHECKING:
    from analysis.tasks import TaskSet

USED = ("bi", "nll")  # orders: from one plain pass, and from the loss without each block
TOKENS = 64  # of a prompt, and of the text behind it, at most


def takes(spec: ModelSpec) -> Takes:
    """Single blocks and sets of them: their loss, and texts, of which a token takes about three times what one takes that is read."""
    singles = plan(spec, single_ablations(spec, ["blocks"])).flops_per_token + 2 * len(sizes(len(spec.blocks))) * spec.flops_per_token
    return Takes({"loss without blocks": singles, "texts": 4 * singles}, 6)


def generation(model: BlockModel, config: RunConfig, tasks: Sequence[TaskSet] = (), max_tokens: int | None = None) -> Generation:
    """Text behind held-out prompts without each block, without sets of blocks and, where the budget holds it, without each head.

    Answers to `tasks` that are written have `max_tokens` new tokens instead of what each task asks for.
    """
    length = min(TOKENS, model.spec.max_len // 2 - 1, config.budget.window)
    config = replace(config, budget=replace(config.budget, window=length)).within(model)
    held = config.text()
    calibration = held.at_most(config.documents or config.budget.documents, model).calibration(model)
    paths = _paths(model, calibration.windows(model), config)
    ablations = [*single_ablations(model.spec, ["blocks"]), *(a for path in paths.values() for a in path)]
    if model.spec.has_heads and config.budget.seconds is None:
        ablations += single_ablations(model.spec, ["heads"])
    work = plan(model.spec, ablations)
    planned = SweepStudy.of(model, ablations, held, kl=False)
    text = held.at_most(config.size(model, work, planned.planned(run_folder(config.out, planned.identity))), model)
    prompts = beginnings(model, text, length)
    study = WritingStudy(model, work, prompts)
    folder = run_folder(config.out, study.identity)
    texts = study.texts(folder, progress_fraction(config.progress, "texts", study.steps))
    losses = dense_losses(study, texts, run_folder(config.out, study.identity | {"scores": "texts"}))
    swept = SweepStudy.of(model, ablations, text, kl=False)
    sums = swept.scores(run_folder(config.out, swept.identity), progress_fraction(config.progress, "loss", swept.steps * text.documents))
    found = writing_table(study, texts, losses, text.corpus)
    read = [tokenizer_of(model).decode(list(prompt.tokens)) for prompt in prompts]
    along = [benchmarks.along(model, task, paths, config, max_tokens) for task in tasks]
    return Generation(model, text, paths, work, found, sweep_table(work, sums, text), texts, read, length, along)


def sizes(n_blocks: int) -> list[int]:
    """How many blocks are removed: powers of two, as far as one block is left, and eight sizes up to half of them."""
    found = [1 << i for i in range(n_blocks.bit_length()) if 1 << i < n_blocks]
    return sorted({*found, *range(0, n_blocks // 2, max(1, n_blocks // 8)), n_blocks // 2} - {0})


def _paths(model: BlockModel, windows: Sequence, config: RunConfig) -> dict[str, RemovalPath]:
    """Sets of blocks by order, none removed first."""
    found_on = Calibration(model, list(batches(windows, model)))
    most = sizes(len(model.spec.blocks))
    whole = {name: ORDERS[name].find(found_on, most[-1]) for name in USED}
    return {name: (NONE, *(path[n] for n in most)) for name, path in whole.items()}
