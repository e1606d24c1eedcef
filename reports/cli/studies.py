"""What commands measure, made from a model and options on whichever machine it is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.cli import names

if TYPE_CHECKING:
    from adapters.ablation import Ablation
    from adapters.base import BlockModel
    from analysis.control.study import ControlledSweep
    from analysis.data.batches import Text
    from analysis.metrics.spans import SpanStudy
    from analysis.metrics.study import ImportanceStudy
    from analysis.runs.sweep_run import SweepStudy
    from analysis.tasks import TaskSet
    from analysis.tasks.study import TaskStudy
    from analysis.tasks.written import WrittenTaskStudy
    from analysis.writing.study import BeginningsStudy


def sweep(
    model: BlockModel, *, kinds: Sequence[str], edits: Sequence[str], text: Text, kl: bool, memory: int | None, control: bool = False
) -> SweepStudy | ControlledSweep:
    from adapters.memory import within_free
    from analysis.control.study import ControlledSweep
    from analysis.engine.ablations import single_ablations
    from analysis.runs.sweep_run import SweepStudy

    ablations = single_ablations(model.spec, kinds, edits)
    calibration = text.calibration(model) if any(ablation.edit == "mean" for ablation in ablations) else None
    study = SweepStudy.of(model, ablations, text, kl=kl, memory=within_free(memory, model.device), calibration=calibration)
    return ControlledSweep(study) if control else study


def importance(model: BlockModel, *, metrics: Sequence[str], kinds: Sequence[str], text: Text, first_token: bool) -> ImportanceStudy:
    from analysis.metrics.study import ImportanceStudy

    study = ImportanceStudy(model, text, tuple(metrics), tuple(kinds), first_token)
    study.check()
    return study


def spans(model: BlockModel, *, text: Text) -> SpanStudy:
    from analysis.metrics.spans import SpanStudy

    return SpanStudy(model, text)


def task_study(
    *, seed: int | None, kinds: Sequence[str], memory: int | None, max_tokens: int | None, **asked: Any
) -> Callable[[BlockModel], TaskStudy | WrittenTaskStudy]:
    """What makes it of a model; `asked` as `task_set` takes it. The tasks are read here: the model is loaded when all else is right."""
    asked |= {"seed": names.SEED if seed is None else seed}
    task_set(**asked)
    return partial(tasks, kinds=kinds, memory=memory, max_tokens=max_tokens, **asked)


@cache
def task_set(*, task: str, shots: int | None, limit: int | None, seed: int, data: Path | None, run_code: bool) -> TaskSet:
    """Read once in a process."""
    from analysis.tasks import load_tasks

    return load_tasks(task, shots=shots, limit=limit, seed=seed, data=data, run_code=run_code)


def tasks(
    model: BlockModel, *, kinds: Sequence[str], memory: int | None, max_tokens: int | None, **asked: Any
) -> TaskStudy | WrittenTaskStudy:
    """`asked`: as `task_set` takes it."""
    from adapters.memory import within_free
    from analysis.engine.ablations import single_ablations
    from analysis.tasks.written import study_of

    memory = within_free(memory, model.device)
    return study_of(model, single_ablations(model.spec, kinds), task_set(**asked), memory=memory, most=max_tokens)


def beginnings(model: BlockModel, *, removed: Ablation, kinds: Sequence[str], text: Text, **options: Any) -> BeginningsStudy:
    """`removed` together, or each part of the kinds by itself; `options` as BeginningsStudy takes them."""
    from analysis.engine.ablations import single_ablations
    from analysis.writing.study import BeginningsStudy

    ablations = single_ablations(model.spec, kinds) if kinds else [removed]
    return BeginningsStudy.of(model, ablations, text, **options)
