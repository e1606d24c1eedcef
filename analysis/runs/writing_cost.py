"""What writing texts takes on this machine, known before it runs, but for where texts end: at most."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.engine.cost import seconds
from analysis.engine.decoding import check_prompts
from analysis.engine.row_budget import at_most
from analysis.runs.writing import WritingStudy


@dataclass(frozen=True, slots=True)
class WritingCost:
    """Were every text as long as it may be."""

    prompts: int
    prompt_tokens: int
    texts: int
    new_tokens: int  # at most, as all below
    memory: int  # bytes of pasts and logits, and of the blocks that are held where weights are streamed
    seconds: float
    weights_read: int  # bytes of its files, where weights are streamed
    passes: int  # through the blocks' part of the files


def writing_cost(study: WritingStudy) -> WritingCost:
    """Raises StrataError as `decode` does before it writes."""
    model, prompts, n_ablations = study.model, study.prompts, len(study.plan.ablations)
    check_prompts(model, prompts, study.names)
    passes = memory = read = 0
    scoring = study.scoring()
    for part in scoring.whole.parts(scoring.asked.at_once):
        for unit in scoring.units(part, range(len(prompts))):
            more, held = at_most(model, len(part.ablations), [prompts[p] for p in unit], study.memory)
            passes, memory = passes + more, max(memory, held)
    if (reader := model.reader) is not None:
        memory, read = memory + reader.held_bytes, passes * reader.bytes_of(range(len(model.blocks)))
    return WritingCost(
        len(prompts),
        sum(len(prompt.tokens) for prompt in prompts),
        study.steps,
        n_ablations * sum(prompt.most for prompt in prompts),
        memory,
        seconds(model, study.flops, study.window, read),
        read,
        passes if reader else 0,
    )
