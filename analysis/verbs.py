"""What `import strata` offers: each verb joins a model, a text and a study, and gives what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.checkpoints.export import Source
from adapters.errors import StrataError
from adapters.registry import load
from analysis.control.study import ControlledSweep
from analysis.data.batches import Text, batches
from analysis.engine import ablations as engine
from analysis.metrics.metrics import Measure
from analysis.metrics.study import ImportanceStudy
from analysis.removal.orders import Calibration, Listing, Search, find_order
from analysis.removal.paths import RemovalPath
from analysis.runs.read_run import RunResult, read_run
from analysis.runs.settings import run_folder
from analysis.runs.sweep_run import SweepStudy

if TYPE_CHECKING:
    from analysis.checkpoints.write import Pruned
    from analysis.comparison.difference import Difference
    from analysis.comparison.results import Comparison
    from analysis.methods.rewrite import InMemory

RUNS = Path("runs")  # in which a run without a folder of its own gets one
FEW = Text()  # what is read where nothing is said: 16 documents of 128 tokens


def single_ablations(model: BlockModel, *kinds: str, edits: Sequence[str] = ("zero",)) -> list[Ablation]:
    """Every block, mixer, ffn, head or group of heads of a model, one at a time; `kinds` as `blocks`, all of them one after the other.

    `edits` say what a part leaves behind: nothing (`zero`), its mean over calibration text (`mean`), or first the one and then the
    other. Raises StrataError on an unknown kind or edit, and on parts that the model does not have.
    """
    return engine.single_ablations(model.spec, kinds or ("blocks",), edits)


def sweep(
    model: BlockModel,
    ablations: Sequence[Ablation],
    text: Text = FEW,
    *,
    out: str | Path | None = None,
    kl: bool = True,
    control: bool = False,
) -> RunResult:
    """Loss, and divergence from the unpruned model, of a model under each ablation, on held-out text.

    With `control`, gradients on more documents narrow the intervals (`analysis.control`).
    Means that ablations leave behind are over the calibration part of `text`, which shares no document with it.
    The run is kept in `out`, or in a folder of its own in ./runs, and goes on where it was stopped. Raises StrataError on
    ablations that the model does not have and on text that is too short.
    """
    calibration = _calibration(model, text) if any(ablation.edit == "mean" for ablation in ablations) else None
    study = SweepStudy.of(model, list(ablations), text, kl=kl, calibration=calibration)
    return _run(ControlledSweep(study) if control else study, out)


def importance(
    model: BlockModel,
    metrics: str | Measure | Sequence[str | Measure] = ("bi",),
    text: Text = FEW,
    *,
    kinds: Sequence[str] = ("blocks",),
    first_token: bool = True,
    out: str | Path | None = None,
) -> RunResult:
    """Importance of every part from plain passes, over the calibration part of `text`, which shares no document with it.

    A metric, or each of several, is a name or a function of a `Step` (analysis.metrics.metrics), whose x, delta and y are
    (documents, tokens, d), that gives one number for each token (documents, tokens); less is less important.
    """
    several = (metrics,) if isinstance(metrics, str) or callable(metrics) else tuple(metrics)
    study = ImportanceStudy(model, _calibration(model, text), several, tuple(kinds), first_token)
    study.check()
    return _run(study, out)


def removal_order(model: BlockModel, by: str | Search | Listing = "bi", text: Text = FEW, n: int | None = None) -> RemovalPath:
    """What is out after 0, 1, ... `n` removals (all but one when it is not said), found on the calibration part of `text`.

    `by` is the name of an order or a metric, or a function of a `Calibration` that lists blocks, the one that goes first in front.
    """
    order = find_order(by).thing
    parts = order.parts(model.spec)
    if n is not None and not 0 < n < parts:
        raise StrataError(f"{n} of {parts} parts are to be removed: give a number from 1 to {parts - 1}, for at least one must stay")
    found_on = Calibration(model, list(batches(_calibration(model, text).windows(model), model)))
    return order.find(found_on, n or parts - 1)


def remove(model: BlockModel, out: Sequence[int] | Ablation, text: Text = FEW, *, cut: str = "auto") -> Pruned:
    """The model without some of its blocks, or of any parts, and what that costs on held-out text: `.model`, `.rise`, `.save(folder)`.

    Heads are deleted where a stock loader holds what is left; else they, and mixers and ffns that go, are zeros in the same shapes
    (`cut`: auto, delete or zero).
    """
    from analysis.checkpoints.prune import prepare_given
    from analysis.checkpoints.write import Pruned

    return Pruned(prepare_given(model, _source(model), text, out, cut))


def prune(
    model: BlockModel,
    by: str | Search | Listing | None = None,
    text: Text = FEW,
    *,
    n: int | None = None,
    ratio: float | None = None,
    params: bool = False,
    kinds: Sequence[str] = (),
    cut: str = "auto",
    method: str | None = None,
) -> Pruned | InMemory:
    """The model with `n` blocks fewer, or a share `ratio` of them or (`params`) of their parameters.

    An order chooses them (Block Influence when nothing is said); of the parts of other `kinds`, as heads, an order by a metric,
    `nll`, `kl` or `greedy`, of experts `n` in each block; `cut` as in `remove`. A `method` replaces what goes instead; the result of
    one that no file can hold has no `save`, and takes a ratio alone, of the blocks' parameters.
    """
    from analysis.checkpoints.prune import Amount, count_of, prepare
    from analysis.checkpoints.write import Pruned
    from analysis.methods.rewrite import measure, require_stock, rewrite
    from analysis.methods.table import METHODS

    if by is not None and method is not None:
        raise StrataError("an order and a method both say what goes: give one of them")
    amount = Amount(n, ratio, params)
    amount.check()
    if method is None:
        return Pruned(prepare(model, _source(model), text, by=by or "bi", amount=amount, kinds=kinds, how=cut))
    if ratio is not None and method in METHODS and not METHODS[method].stock:
        return measure(model, text, method, ratio)
    require_stock(method)
    if params or kinds:
        raise StrataError(f"`method` {method} removes whole blocks: leave out `params` and `kinds`")
    return Pruned(rewrite(model, _source(model), text, method, count_of(n, ratio, len(model.spec.blocks))))


def compare(
    models: Sequence[str | BlockModel], text: Text = FEW, *, seconds: float | None = None, out: str | Path | None = None
) -> Comparison:
    """Two models or more on the same bytes: which is more redundant? `.facts`, `.losses`, `.summaries`, `.conclusion`.

    Models that are named are loaded one at a time. `seconds` bounds the time of a sweep: heads are left out where it is not enough.
    """
    from analysis.comparison.results import Comparison
    from analysis.comparison.study import compare
    from analysis.runs.budgets import Budget
    from analysis.runs.settings import RunConfig
    from analysis.zoo.groups import zoo_facts

    names, find = _named(models)
    budget = Budget(text.window, text.documents, seconds)
    config = RunConfig(budget, _folder(out) or RUNS, text.corpus, text.documents, text.seed)
    return Comparison(compare(names, find, zoo_facts(), config))


def difference(
    models: Sequence[str | BlockModel],
    text: Text = FEW,
    tasks: Sequence[str] = (),
    *,
    limit: int | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
) -> Difference:
    """By how much models are worse than the first, paired over the same bytes and questions: `.table`, `.sentences`, `.kin`.

    What is known of those that were pruned from others is `.kin`. Tasks and `limit` are as in `evaluate`.
    """
    from analysis.comparison.difference import difference

    asked = []
    if tasks:
        from analysis.tasks import load_tasks

        asked = [load_tasks(task, limit=limit, data=_folder(data)) for task in tasks]
    names, find = _named(models)
    return difference(names, find, text, asked, out=_folder(out) or RUNS)


def evaluate(
    model: BlockModel,
    task: str | None = None,
    ablations: Sequence[Ablation] = (),
    text: Text = FEW,
    *,
    shots: int | None = None,
    limit: int | None = None,
    data: str | Path | None = None,
    run_code: bool = False,
    max_tokens: int | None = None,
    out: str | Path | None = None,
) -> RunResult:
    """Perplexity of the model as it is and under each ablation, or with `task` a benchmark of lm-evaluation-harness.

    `limit` questions of each task, with `shots` examples. `data` is a folder of benchmark files, or "texts" for the offline ones.
    Of tasks whose answers are written: with `run_code` programs that the model writes are run, in a sandbox, and an answer has
    `max_tokens` new tokens instead of what its task asks for.
    """
    if task is None:
        return sweep(model, ablations, text, out=out, kl=False)
    from analysis.tasks import load_tasks
    from analysis.tasks.written import study_of

    tasks = load_tasks(task, shots=shots, limit=limit, data=_folder(data), run_code=run_code)
    return _run(study_of(model, list(ablations), tasks, most=max_tokens), out)


def _named(models: Sequence[str | BlockModel]) -> tuple[list[str], Callable[[str], BlockModel]]:
    """Names of models, and what gives each: those that are not given are loaded when they are asked for."""
    given = {model.spec.name: model for model in models if isinstance(model, BlockModel)}
    names = [model.spec.name if isinstance(model, BlockModel) else model for model in models]
    return names, lambda name: given[name] if name in given else load(name)


def _run(study: Any, out: str | Path | None) -> RunResult:
    """Runs a study and reads it back; the table is of what was asked for, where the folder holds more documents."""
    folder = _folder(out) or run_folder(RUNS, study.identity)
    table = study.run(folder)
    return replace(read_run(folder), table=table, documents=study.documents)


def _calibration(model: BlockModel, text: Text) -> Text:
    """What is chosen is chosen on other documents than those that judge it."""
    return text.calibration(model) if text.split == "held-out" else text


def _source(model: BlockModel) -> Source:
    if model.origin is None:
        raise StrataError(f"{model.spec.name} is not as it was loaded from files, and a checkpoint is made of these: load it")
    source, revision = model.origin
    return Source.of(source, model.spec, revision)


def _folder(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path).expanduser()
