"""What every ablation wrote behind the same prompts, as a tidy table with paired intervals over prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from adapters.ablation import NONE
from adapters.base import BlockModel
from analysis.data.hashes import content_hash
from analysis.engine.ablations import row_key
from analysis.engine.plan import plan
from analysis.engine.row_budget import Prompt
from analysis.runs.records import Work
from analysis.runs.run import Run
from analysis.runs.scoring import Question, Scoring, map_documents
from analysis.runs.tables import COLUMNS, key, tidy
from analysis.runs.writing import WritingStudy
from analysis.stats.intervals import Array, Interval, accuracy, differs_by_family, ratio
from analysis.tasks.likelihoods import batches, likelihoods
from analysis.tasks.requests import Request
from analysis.writing.measures import agreement, distinct, first_difference, longest_loop

NGRAM = 3
TITLES = {
    "agreement": "share of tokens that agree with the unpruned model's text",
    "first_difference": "tokens until the first difference from the unpruned model's text",
    "loop": "share of tokens in the longest loop",
    f"distinct_{NGRAM}": f"share of distinct {NGRAM}-grams",
    "dense_nll": "loss of the text under the unpruned model (nats per token)",
    "stopped": "share of texts that end before the limit",
}
SHORT = {  # the same, where there is less room
    "agreement": "tokens that agree",
    "first_difference": "tokens until the first difference",
    "loop": "tokens in the longest loop",
    f"distinct_{NGRAM}": f"distinct {NGRAM}-grams",
    "dense_nll": "loss under the unpruned model",
    "stopped": "texts that end by themselves",
}
BOUNDS = {"first_difference": math.inf, "dense_nll": math.inf}  # that no interval goes beyond; shares end at 1
PAIRED = ("loop", f"distinct_{NGRAM}", "dense_nll", "stopped")  # whose difference from the dense model's texts is given


def losses_under(model: BlockModel, prompts: Sequence[Prompt], texts: np.ndarray) -> Array:
    """Loss in nats of every text (ablations, prompts) behind its prompt under the model as a whole; equal texts are read once."""
    requests, dense = _requests(prompts, texts), plan(model.spec, [])
    distinct_ones = _distinct(requests)
    each = [likelihoods(model, dense, distinct_ones[where]).nats[0] for where in batches(model, dense, [[r] for r in distinct_ones])]
    nats = dict(zip(distinct_ones, torch.cat(each).tolist(), strict=True))
    return np.array([[-nats[request] for request in row] for row in requests])


def _requests(prompts: Sequence[Prompt], texts: np.ndarray) -> list[list[Request]]:
    return [[Request(prompt.tokens, tuple(text["tokens"])) for prompt, text in zip(prompts, row, strict=True)] for row in texts]


def _distinct(requests: Sequence[Sequence[Request]]) -> list[Request]:
    """Those behind a prompt one after the other, so that it is read once for all of them that are read together."""
    return list(dict.fromkeys(request for behind_one in zip(*requests, strict=True) for request in behind_one))


def dense_losses(study: WritingStudy, texts: np.ndarray, folder: Path) -> Array:
    """As `losses_under` the study's model, and kept in a run."""
    model, requests = study.model, _requests(study.prompts, texts)
    distinct_ones = _distinct(requests)

    def units(work: Work, which: Sequence[int]) -> list[Sequence[int]]:
        return [which[where] for where in batches(model, plan(model.spec, []), [[distinct_ones[r]] for r in which])]

    def answer(work: Work, which: Sequence[int]) -> Iterator[tuple[Sequence[int], Mapping[str, np.ndarray]]]:
        dense = plan(model.spec, [])
        for unit in units(work, which):
            yield unit, {"nats": likelihoods(model, dense, [distinct_ones[r] for r in unit]).nats.numpy()}

    names = [content_hash(request) for request in distinct_ones]
    scoring = Scoring(Question([NONE], ("nats",), names, [[name] for name in names]), {}, units, answer)
    run = Run(folder, study.identity | {"scores": "texts"}, ("nats",))
    nats = dict(zip(distinct_ones, -scoring.asked.answer(map_documents(run, scoring))["nats"][0], strict=True))
    return np.array([[nats[request] for request in row] for row in requests])


def lengths(texts: np.ndarray) -> Array:
    """Tokens of each text."""
    return np.vectorize(lambda text: len(text["tokens"]), otypes=[float])(texts)


def by_prompt(texts: np.ndarray, losses: Array | None) -> dict[str, tuple[Array, Array]]:
    """Sums and counts of each metric of TITLES, (ablations, prompts) each; the first ablation is the dense model."""
    tokens = lengths(texts)
    ones = np.ones(texts.shape)

    def each(measure: Callable[[list[int], list[int]], float]) -> Array:
        pairs = [[measure(text["tokens"], dense["tokens"]) for text, dense in zip(row, texts[0], strict=True)] for row in texts]
        return np.array(pairs, dtype=float)

    found = {
        "agreement": (each(agreement), ones),
        "first_difference": (each(first_difference), ones),
        "loop": (each(lambda text, dense: longest_loop(text)), tokens),
        f"distinct_{NGRAM}": (each(lambda text, dense: distinct(text, NGRAM)), ones),
        "stopped": (np.vectorize(lambda text: text["why"] != "length", otypes=[float])(texts), ones),
    }
    return found if losses is None else found | {"dense_nll": (losses, tokens)}


def of_texts(metrics: Mapping[str, tuple[Array, Array]], a: int) -> dict[str, Interval]:
    """Of what ablation `a` wrote, from `by_prompt`: each metric, and `delta_...` of PAIRED where it is not the dense model, which is 0."""
    values = {}
    for metric, (sums, counts) in metrics.items():
        means, bounds = sums / counts, (0.0, BOUNDS.get(metric, 1.0))
        shares = metric == "stopped"  # of right or wrong, as answers are
        values[metric] = (accuracy(sums[a]) if shares else ratio(sums[a], counts[a])).within(*bounds)
        if a and metric in PAIRED:
            paired = accuracy(sums[a], sums[0]) if shares else ratio(means[a] - means[0], np.ones(means.shape[1]))
            values[f"delta_{metric}"] = paired.within(-bounds[1], bounds[1])
    return values


def writing_table(study: WritingStudy, texts: np.ndarray, losses: Array | None, dataset: str) -> pd.DataFrame:
    """Rows in the order of the plan: the metrics of TITLES, `delta_...` of PAIRED against the dense model, and a test of its loss.

    `p_value`, `p_adjusted` and `significant` are of the loss per token being other than that of the dense model's texts; ablations of
    the same kind are a family. Without `losses` there is neither, and agreement says what has changed.
    """
    metrics, spec, n_tokens = by_prompt(texts, losses), study.model.spec, lengths(texts).sum(1).astype(int)
    test = None
    if losses is not None:
        rates = losses / lengths(texts)  # of each text: texts differ in length, and are compared by prompt
        test = differs_by_family([row_key(spec, a).kind for a in study.plan.ablations], rates - rates[0], np.ones(rates.shape[1]))
    rows = []
    for a, ablation in enumerate(study.plan.ablations):
        values = of_texts(metrics, a)
        if a and test is not None:
            values |= {name: Interval(value, None, None) for name, value in test.of(a).items()}
        rows += [(*key(spec, ablation), dataset, metric, *found, len(study.prompts), int(n_tokens[a])) for metric, found in values.items()]
    return tidy(rows, COLUMNS)
