"""What is said in words about the redundancy of one model, or of several side by side: functions of `Findings`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from analysis.comparison.redundancy import LIMIT
from analysis.display.format import bounded, capital, escape, hundredths, listed, number, percent
from analysis.redundancy.findings import FLOPS, PARAMETERS, Findings, Range
from analysis.stats.intervals import Interval

TENTH = {0.1: "a tenth"}.get(LIMIT, percent(LIMIT))
GAIN = f"{TENTH} of the gain over a byte unigram"
NOT_KNOWN = "not known"
Say = Callable[[Findings], str]


def how_many(f: Findings) -> str:
    """How many blocks can go together, as a clause on the model: "zoo-llama-0 can lose 2 of 12 blocks (95 % interval 1 to 2)"."""
    if f.removable is None:
        return ""
    value, low, high = f.removable
    end = "at least " if value >= f.measured_up_to > 0 else ""
    sure = "" if low is None or high is None else f" (95\u00a0% interval {low:g} to {high:g})"
    return f"{escape(f.model)} can lose {end}{value:g} of {f.n_blocks} blocks{sure}"


def _range(found: Range) -> str:
    if found.first:
        return f"up to {percent(found.high)}"
    return f"at {percent(found.low)}" if found.low == found.high else f"from {percent(found.low)} to {percent(found.high)}"


def depth_or_width(f: Findings) -> str:
    """Which is cheaper and how far, as a clause: "in zoo-llama-0 depth is cheaper than width up to 24 %"; empty when not known."""
    found = f.ranges()
    if f.lacking or not found:
        return ""
    said = [f"{r.cheaper} is cheaper {_range(r)}" for r in found]
    return f"in {escape(f.model)} {listed(said)}"


def influence(f: Findings) -> str:
    """Whether Block Influence knows, as a clause; empty when not known."""
    if f.knows is None or f.influence is None:
        return ""
    tau = f"Kendall's tau {bounded(f.influence, hundredths)}"
    return f"{'yes' if f.knows else 'not shown'} for {escape(f.model)} ({tau})"


def removable_cell(f: Findings) -> str:
    if f.lacking or f.removable is None:
        return NOT_KNOWN
    value, low, high = f.removable
    sure = "" if low is None else f" ({low:g} to {high:g})"
    return f"{'≥ ' if value >= f.measured_up_to > 0 else ''}{value:g} of {f.n_blocks}{sure}"


def depth_or_width_cell(f: Findings) -> str:
    if f.lacking or not f.against:
        return NOT_KNOWN
    return "; ".join(f"{r.cheaper} {_range(r)}" for r in f.ranges()) or "no significant difference"


def influence_cell(f: Findings) -> str:
    if f.knows is None or f.influence is None:
        return NOT_KNOWN
    return f"{'yes' if f.knows else 'not shown'}, tau {bounded(f.influence, hundredths)}"


def _unknown(found: Sequence[Findings], field: str, empty: str) -> str:
    """For which models something is not known, by reason."""
    reasons: dict[str, list[str]] = {}
    for f in found:
        reasons.setdefault(f.lacking or (empty if f.why(field) == "it was not measured" else f.why(field)), []).append(escape(f.model))
    return "; ".join(f"{listed(models)}: {why}" for why, models in reasons.items())


def _said(found: Sequence[Findings], say: Say, opening: str, question: str, field: str, empty: str = "it was not measured") -> str:
    """One sentence on all models: what is known of some, and of which it is not known and why."""
    clauses = {f.model: "" if f.lacking else say(f) for f in found}
    known = [c for c in clauses.values() if c]
    rest = [f for f in found if not clauses[f.model]]
    said = f"{opening}{'; '.join(known)}." if known else ""
    if rest:
        one = f"{capital(question)} is not known{' of every model' if known and len(rest) < len(found) else ''}"
        said += f"{' ' if said else ''}{one if not known else 'Not known'} ({_unknown(rest, field, empty)})."
    return said


def answers(found: Sequence[Findings]) -> list[str]:
    """The sentences of a report's first page on single models: how many blocks, depth or width, and Block Influence."""
    if all(f.lacking for f in found):
        asked = "How many blocks can go, whether depth or width is cheaper, and whether Block Influence knows"
        return [f"{asked}: not known ({_unknown(found, '', '')})."]
    none = "heads and blocks do not differ significantly where they save as much"
    return [
        _said(found, how_many, f"For {GAIN}, ", "how many blocks can go", "removable"),
        _said(found, depth_or_width, "At equal savings of block parameters, ", "whether depth or width is cheaper", "against", none),
        _said(found, influence, "Does Block Influence order the blocks as the loss does: ", "whether Block Influence knows", "influence"),
    ]


def conclusion(f: Findings) -> str:
    """The one conclusion about one model."""
    if f.lacking:
        return f"How redundant {escape(f.model)} is, in depth or in width, is not known: {f.lacking}."
    return " ".join([width_conclusion(f), *(one for one in (f"{how_many(f)} for {GAIN}." if f.removable else "", knows(f)) if one)])


def knows(f: Findings) -> str:
    if f.influence is None:
        return ""
    tau = f"Kendall's tau with the rise in loss is {bounded(f.influence, hundredths)}"
    end = {True: "orders the blocks as the loss does", False: "is not shown to order the blocks as the loss does", None: ""}[f.knows]
    return f"Block Influence {end}: {tau}." if end else ""


def width_conclusion(f: Findings) -> str:
    """ "Depth is cheaper than width here, up to 24 % of the block parameters", by parameters first and then by FLOPs."""
    if not f.against:
        return f"Whether depth or width is cheaper is not known: {f.why('against')}."
    said = {m: _cheaper(f.ranges(m)) for m in (PARAMETERS, FLOPS)}
    first, second = (said[m] for m in (PARAMETERS, FLOPS))
    if not first and not second:
        most = max(p.share for p in f.against)
        return f"Whether depth or width is cheaper is not known: up to {percent(most)} saved, blocks and heads do not differ significantly."
    parts = [f"{first} of the {PARAMETERS}" if first else f"depth and width do not differ significantly by {PARAMETERS}"]
    parts += [f"{second} of the {FLOPS} per token" if second else f"by {FLOPS} no difference is significant"]
    return f"{capital('; '.join(parts))}."


def _cheaper(found: Sequence[Range]) -> str:
    return " and ".join(f"{r.cheaper} is cheaper than {'width' if r.cheaper == 'depth' else 'depth'} here, {_range(r)}" for r in found)


def effective(a: Findings, b: Findings) -> str:
    """Two architectures: over how many blocks the loss is spread in two models, where no comparison on the same bytes was made.

    They differ significantly only where their intervals do not overlap, which asks for more than a test of the difference does.
    """
    question = f"whether {escape(a.model)} or {escape(b.model)} is more redundant"
    for f in (a, b):
        if f.lacking or f.effective is None or f.effective.low is None:
            return f"{capital(question)} is not known: {escape(f.model)}: {f.lacking or f.why('effective')}."
    low, high = sorted((a, b), key=lambda f: _share(f).value)
    sizes = f"{number(_value(low))} against {number(_value(high))} effective blocks of {_of(low, high)}"
    lead = f"The loss of {escape(low.model)} ({low.architecture}) is spread over fewer blocks than that of {escape(high.model)}"
    lead += f" ({high.architecture}): {sizes}"
    apart = (_share(low).high or 0) < (_share(high).low or 0)
    return f"{lead}{', significantly' if apart else ', but their intervals overlap'}; one training of each says little of architectures."


def _value(f: Findings) -> float:
    return f.effective.value if f.effective else 0.0


def _share(f: Findings) -> Interval:
    value, low, high = f.effective or (0.0, None, None)
    n = f.n_blocks
    return Interval(value / n, None if low is None else low / n, None if high is None else high / n)


def _of(a: Findings, b: Findings) -> str:
    return f"{a.n_blocks}" if a.n_blocks == b.n_blocks else f"{a.n_blocks} and of {b.n_blocks}"
