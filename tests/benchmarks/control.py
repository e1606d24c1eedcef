"""What control variates save: seconds to the same median width of intervals, for every kind of part, and all kinds at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor
from transformers import LlamaForCausalLM

from adapters import BlockModel, load
from analysis.control import pilot
from analysis.control.covariates import DENSE, SIZED, first_order, point, sizes
from analysis.data.batches import Text, batches
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from analysis.stats.control_variates import Controlled, controlled
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Array, standard_error, student
from tests.benchmarks.timing import best, load_average

TITLE = "Control variates"
KINDS = ("blocks", "mixers", "ffns", "heads")
ZOO = ("zoo-llama-0", "zoo-rwkv5-0")
DRAWS = 10  # of the documents, over which a width is a mean
GRADIENTS = 400  # documents at most
TIMED = 2  # documents, whose sweep is timed for each kind
READ = 90  # parts of a kind, about: of more, each second or third is swept on all documents, and counts for those that are not


class Measured(NamedTuple):
    """Of one model: sums of rises (parts, n) and first-order effects (parts, N) of documents, their tokens, and seconds of a document."""

    rises: Array
    effects: Array
    sizes: Array  # (parts, N) of blocks and ffns, where they are a covariate too; zeros
    tokens: Array  # (N,)
    kinds: Array  # (parts,)
    seconds: dict[str, float]  # of a sweep, by kind or "all"
    gradient: float
    sizing: float  # beside a gradient, where sizes are taken


def section(model: BlockModel, foreign: LlamaForCausalLM, ids: Tensor, *, documents: int = 64, others: Sequence[str] = ZOO) -> str:
    """Markdown: windows as long as `ids` (32, T) are; plain intervals are of so many `documents`."""
    before, rows, held = load_average(), [], []
    for each in (model, *(load(name, device=str(model.device), dtype="float32") for name in others)):
        found = _measured(each, ids.shape[1], documents)
        rows += [_row(each, kind, found, documents) for kind in found.seconds]
        held.append(f"{each.spec.name} {_held(found, documents)}")
    return f"""
## {TITLE}

`strata sweep --control`: seconds to the median width that intervals of {documents} plain documents have, and {2 * documents} (by
the root), from the seconds of a sweep and of a gradient in this run; n documents swept and gradients on N, with a pilot of
{pilot.DOCUMENTS}. Widths are means over {DRAWS} draws of the documents. The last column is how much wider the interval of the worst part is
than its plain one. What takes as long or longer is not worth it. Of more than {2 * READ - 1} parts each second or third is read on all
documents, and stands for its neighbours. Load average before: {before}.

{pd.DataFrame(rows).to_markdown(index=False)}

Intervals from {MIN_DOCUMENTS_FOR_CI} swept documents and gradients on {5 * MIN_DOCUMENTS_FOR_CI} hold the plain value of all
{documents} for {"; ".join(held)}.
"""


def _measured(model: BlockModel, window: int, documents: int) -> Measured:
    kinds = KINDS if model.spec.has_heads else KINDS[:3]
    parts = {kind: single_ablations(model.spec, [kind]) for kind in kinds}
    every = [part for found in parts.values() for part in found]
    steps = {kind: max(1, len(found) // READ) for kind, found in parts.items()}
    read = [part for kind, found in parts.items() for part in found[:: steps[kind]]]
    standing = np.repeat(np.arange(len(read)), [steps[kind] for kind, found in parts.items() for _ in found[:: steps[kind]]])
    windows = Text(window=window, documents=documents).at_most(GRADIENTS, model).windows(model)
    sized = [part for part in read if part.parts.keys() <= {*SIZED}] if point(model) == DENSE else []
    rises, effects, large, tokens, gradient, sizing = [], [], [], [], 0.0, 0.0
    for number, batch in enumerate(batches(windows, model)):
        start = time.perf_counter()
        effects.append(first_order(model, read, batch))
        between = time.perf_counter()
        large.append(np.zeros_like(effects[-1]))
        if sized:
            large[-1][[read.index(part) for part in sized]] = sizes(model, sized, batch)
        gradient, sizing = gradient + between - start, sizing + time.perf_counter() - between
        tokens.append(batch.tokens)
        if 8 * number < documents:
            nll = sweep(model, plan(model.spec, read), batch.ids, batch.lengths, first=batch.first, kl=False)["nll"]
            rises.append((nll[1:] - nll[0]).numpy())
    (few,) = batches(windows[:TIMED], model, TIMED)
    plans = {kind: plan(model.spec, found) for kind, found in [*parts.items(), ("all", every)]}
    seconds = best(
        {kind: lambda work=work: sweep(model, work, few.ids, few.lengths, first=few.first, kl=False) for kind, work in plans.items()}
    )
    return Measured(
        np.concatenate(rises, -1)[standing, :documents],
        np.concatenate(effects, -1)[standing],
        np.concatenate(large, -1)[standing],
        np.concatenate(tokens),
        np.repeat(kinds, [len(found[:: steps[kind]]) * steps[kind] for kind, found in parts.items()]),
        {kind: found / TIMED for kind, found in seconds.items()},
        gradient / len(windows),
        sizing / len(windows),
    )


def _row(model: BlockModel, kind: str, found: Measured, documents: int) -> dict[str, str]:
    which = np.isin(found.kinds, KINDS if kind == "all" else [kind])
    of = found._replace(**{name: getattr(found, name)[which] for name in ("rises", "effects", "sizes", "kinds")})
    plain, each = _widths_plain(of, documents), found.seconds[kind]
    row = {"model": model.spec.name, "parts": f"{kind} ({which.sum()})", f"{documents} plain": f"{each * documents:.1f} s"}
    for times in (1, 2):
        # the root, and Student's t
        target = float(np.median(plain)) * times**-0.5 * student(times * documents) / student(documents)
        size = _needed(model, of, target, kind, each)
        name = f"as {times * documents}"
        if size is None:
            row |= {name: "not reached", f"times less, {times * documents}": ""}
            continue
        n, every, seconds, widths = size
        row |= {
            name: f"{seconds:.1f} s (n {n}, N {every})",
            f"times less, {times * documents}": f"{times * documents * each / seconds:.2f}",
        }
        if times == 1:
            row["widest"] = f"{(widths / plain).max():.2f}"
    return row


def _needed(model: BlockModel, of: Measured, target: float, kind: str, each: float) -> tuple[int, int, float, Array] | None:
    """The fewest documents to the median width: swept, with gradients, seconds, and the widths of all parts."""
    left = float(np.median(_estimate(of, np.arange(of.rises.shape[1]), of.rises.shape[1]).left))
    kinds = KINDS if kind == "all" else (kind,)
    parts = single_ablations(model.spec, [k for k in kinds if k in set(of.kinds)])
    share = plan(model.spec, pilot.sampled(model.spec, parts)).flops_per_token / plan(model.spec, parts).flops_per_token
    rng = np.random.default_rng(0)
    for n in range(MIN_DOCUMENTS_FOR_CI, of.rises.shape[1] + 1):
        gradient = of.gradient + of.sizing * bool(n >= pilot.FEW and of.sizes.any())
        every = min(pilot.enough(left, gradient / each, n), len(of.tokens))
        draws = [rng.permutation(of.rises.shape[1])[:n] for _ in range(DRAWS)]
        widths = np.mean([np.subtract(*_estimate(of, draw, every)[2:0:-1]) for draw in draws], axis=0)
        if np.median(widths) <= target:
            return n, every, n * each + every * gradient + pilot.DOCUMENTS * (share * each + of.gradient), widths
    return None


def _estimate(of: Measured, swept: Array, every: int) -> Controlled:
    """From these documents, with the first others beside them."""
    order = np.concatenate([swept, np.setdiff1d(np.arange(len(of.tokens)), swept)])[: max(every, len(swept))]
    covariates = np.stack([of.effects, of.sizes], 1)[:, :, order]
    two = of.sizes.any(-1) & (len(swept) >= pilot.FEW)
    found = np.empty((len(Controlled._fields), len(of.rises)))
    for rows, k in (two, 2), (~two, 1):
        found[:, rows] = controlled(of.rises[rows][:, swept], of.tokens[order], covariates[rows, :k])
    return Controlled(*found)


def _widths_plain(of: Measured, documents: int) -> Array:
    return 2 * student(documents) * standard_error(of.rises, np.broadcast_to(of.tokens[:documents], of.rises.shape))


def _held(of: Measured, documents: int) -> str:
    n, every = MIN_DOCUMENTS_FOR_CI, min(5 * MIN_DOCUMENTS_FOR_CI, len(of.tokens))
    found, truth = _estimate(of, np.arange(n), every), of.rises.sum(1) / of.tokens[:documents].sum()
    inside = (found.low <= truth) & (truth <= found.high)
    return f"{inside.sum()} of {len(inside)} parts"
