"""A `BlockModel`, ablated or not, as an ordinary lm_eval model: `lm_eval.simple_evaluate(HarnessModel(load("smollm2")), tasks=...)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import LM

from adapters.ablation import NONE, Ablation
from adapters.base import BlockModel
from analysis.engine.decoding import decode
from analysis.engine.plan import Plan, plan
from analysis.tasks.likelihoods import batches, likelihoods
from analysis.tasks.requests import Request, pair, rolling
from analysis.tasks.written import prompt_of


class HarnessModel(LM):
    """Scores requests with one ablation of `model`; prompts that begin alike are read once, and all texts are written together."""

    def __init__(self, model: BlockModel, ablation: Ablation = NONE) -> None:
        super().__init__()
        self.model, self.plan = model, plan(model.spec, [ablation])

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        return [found[0] for found in self._score([[pair(self.model, *request.args)] for request in requests])]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        return [sum(nats for nats, _ in found) for found in self._score([rolling(self.model, *request.args) for request in requests])]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Raises StrataError as `analysis.engine.decoding.decode` does."""
        alone = Plan(self.plan.spec, self.plan.ablations[-1:], self.plan.actions[-1:])
        prompts = [prompt_of(self.model, *request.args) for request in requests]
        return [written.text for written in sorted(decode(self.model, alone, prompts), key=lambda written: written.prompt)]

    def _score(self, documents: Sequence[Sequence[Request]]) -> list[list[tuple[float, bool]]]:
        """Of the requests of each document, under the last ablation of the plan: the dense model comes first."""
        out: list[list[tuple[float, bool]]] = []
        for where in batches(self.model, self.plan, documents):
            found = likelihoods(self.model, self.plan, [request for requests in documents[where] for request in requests])
            scored = iter(zip(found.nats[-1].tolist(), found.greedy[-1].tolist(), strict=True))
            out += [[next(scored) for _ in requests] for requests in documents[where]]
        return out
