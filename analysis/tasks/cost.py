"""What a benchmark whose answers are scored takes on this machine, known before it runs."""

from __future__ import annotations

from analysis.engine.cost import Cost, seconds
from analysis.engine.passes import visits
from analysis.tasks.likelihoods import laid_out
from analysis.tasks.study import TaskStudy


def cost(study: TaskStudy) -> Cost:
    """The plan's operations on the trees that are read, and its heads at continuations. Raises StrataError as `laid_out`."""
    model, plan, scoring = study.model, study.plan, study.scoring()
    tokens, positions, memory, read = 0, 0, 0, 0
    for unit in scoring.units(scoring.whole, range(len(study.documents))):
        requests, names = study.requests_of(unit)
        laid = laid_out(model, plan, requests, memory=study.memory, names=names)
        streams = min(plan.widest, laid.limit)
        tokens += len(laid.reading.tree)
        positions += sum(len(request.continuation) for request in requests)
        memory = max(memory, laid.call + streams * laid.stream)
        read += 0 if model.reader is None else model.reader.bytes_of(visits(plan, streams, kl=False))
    heads = len(plan.ablations) * model.spec.unembed_flops
    flops = (plan.flops_per_token - heads) * tokens + heads * positions
    return Cost.of(model, plan, tokens, memory, seconds(model, flops, study.window, read), read)
