"""What `--dry-run` prints of a study: how much is computed, and what that takes on this machine.

All of it raises StrataError for what the study itself refuses before it computes anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.base import BlockModel
from adapters.errors import visible
from adapters.memory import megabytes
from analysis.display.format import count, number
from analysis.engine.cost import Cost, cost, seconds
from analysis.engine.plan import Plan
from analysis.runs.writing_cost import WritingCost, writing_cost
from reports.cli import output

if TYPE_CHECKING:
    from analysis.control.study import ControlledSweep
    from analysis.metrics.spans import SpanStudy
    from analysis.metrics.study import ImportanceStudy
    from analysis.runs.jobs import Job
    from analysis.runs.sweep_run import SweepStudy
    from analysis.runs.writing import WritingStudy


def study_of(job: Job, out: Path, check: Callable[[Any], object] | None = None) -> Any:
    """With the model loaded here. Raises StrataError where `out` is of another study, which `check` says of one that has no run."""
    study = job.study()
    (check or (lambda study: study.open(out)))(study)
    return study


def swept(study: SweepStudy | ControlledSweep, as_json: bool) -> None:
    """Rows, tokens, memory and time of a sweep, and of gradients beside it."""
    from analysis.control.study import ControlledSweep

    control, study = (study.announced, study.sweep) if isinstance(study, ControlledSweep) else (None, study)
    study.scoring()
    found = cost(study.model, study.plan, study.text.documents, study.text.window, study.memory, study.kl)
    if as_json:
        _json(study, asdict(found) | _read(study) | ({"control": control} if control else {}))
        return
    output.read(study, as_json)
    print(f"{_asked(study.plan)} on {count(study.text.documents, 'document')}, {found.tokens:,} tokens")
    _takes(study.model, study.plan, found, "per document")
    if control:
        print(gradients(control, found.seconds))


def gradients(control: Mapping[str, Any], seconds: float) -> str:
    """What control variates will take beside `seconds` of a sweep, in words."""
    if control["plain"]:
        return f"no control variates: {control['plain']}"
    (low, high), each = control["gradients"], control["price"] * seconds / control["swept"]
    most, documents = seconds * control["pilot"] + each * high, f"{low} to {high}" if low != high else f"{high}"
    return (
        f"control variates: {count(control['swept'], 'document')} swept and gradients on {documents}, one of which takes "
        f"{control['price']:.3f} of a sweep's time; with a pilot about {most:,.0f} s more"
    )


def passed(study: ImportanceStudy | SpanStudy, as_json: bool) -> None:
    """Documents, tokens and time of plain passes over calibration text."""
    study.scoring()
    model, documents, tokens = study.model, study.text.documents, study.text.documents * study.text.window
    weights = 0 if model.reader is None else study.passes * model.reader.bytes_of(range(len(model.blocks)))
    took = seconds(model, study.flops, study.text.window, weights)
    if as_json:
        found = {"documents": documents, "tokens": tokens, "seconds": took, "weights_read": weights, "passes": study.passes}
        _json(study, found | _read(study))
        return
    output.read(study, as_json)
    print(study.sentence)
    _streamed(model, study.passes, weights)
    print(f"{count(documents, 'document')}, {tokens:,} tokens, about {took:,.0f} s on this machine")


def asked(study: Any, as_json: bool) -> None:
    """A benchmark: of answers that are scored, or of such as the model writes."""
    name, n = study.tasks.name, len(study.tasks.items)
    if study.tasks.written:
        written(study.writing, f"{count(n, 'question')} of {name}", as_json, {"questions": n, "cut": study.cut})
    else:
        from analysis.tasks.cost import cost

        found, requests = cost(study), sum(map(len, study.requests))
        if as_json:
            _json(study, asdict(found) | {"questions": n, "continuations": requests, "cut": study.cut})
            return
        asked = f"{count(n, 'question')} of {name}, {count(requests, 'continuation')}"
        print(f"{_asked(study.plan)} on {asked}, {found.tokens:,} tokens")
        _takes(study.model, study.plan, found, "per question")
    if not as_json:
        output.cut(study)


def written(
    study: WritingStudy, prompts: str, as_json: bool, about: Mapping[str, int] | None = None, found: WritingCost | None = None
) -> None:
    """Texts behind `prompts`, in words: what is known is how long they may be, and with that all else at most (`found`)."""
    found = found or writing_cost(study)
    if as_json:
        _json(study, asdict(found) | dict(about or {}))
        return
    print(visible(f"{_asked(study.plan)} on {prompts}, {found.prompt_tokens:,} tokens that are read"))
    print(f"{count(found.texts, 'text')} of at most {found.new_tokens:,} new tokens together")
    _streamed(study.model, found.passes, found.weights_read, "at most ")
    print(f"at most {megabytes(found.memory)} for what blocks keep of texts, and at most about {found.seconds:,.0f} s on this machine")


def _asked(plan: Plan) -> str:
    n = len(plan.ablations) - 1
    return f"{count(n, 'ablation')} and the unpruned model" if n else "the unpruned model"


def _takes(model: BlockModel, plan: Plan, found: Cost, each: str) -> None:
    naive = len(plan.ablations) * len(plan.spec.blocks)
    again = f" (and {found.again_rows:,.0f} through parts of a document that experts had)" if found.again_rows else ""
    passes = f"{found.mixer_rows:,} passes through mixers and {found.ffn_rows:,} through ffns{again}"
    print(f"{passes} {each}, instead of {naive:,} one by one")
    _streamed(model, found.passes, found.weights_read)
    print(f"up to {megabytes(found.memory)} beside the model, about {found.seconds:,.0f} s on this machine")


def _streamed(model: BlockModel, passes: float, weights: int, most: str = "") -> None:
    """How often files are read."""
    if model.reader is not None:
        loading = f"loading has read {megabytes(model.reader.load_bytes)} for a hash and a check"
        print(f"weights of blocks are streamed: read {most}{number(passes)} times, {most}{megabytes(weights)} in all; {loading}")


def _read(study: Any) -> dict[str, Any]:
    return {"read": study.text.reading(study.model).to_json()}


def _json(study: Any, found: dict[str, Any]) -> None:
    reader = study.model.reader
    print(json.dumps(found | ({"load_read": reader.load_bytes} if reader else {})))
