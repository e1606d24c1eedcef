"""Quantisation and the removal of blocks, alone and in both orders: what is saved and what it costs (paper, Table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.checkpoints.export import Source
from adapters.errors import StrataError
from adapters.specs import ModelSpec
from analysis.data.batches import Text
from analysis.display.format import bounded, capital, count, named, number
from analysis.display.result import Result, read
from analysis.engine.plan import plan
from analysis.methods.accuracy import METRIC, has_options
from analysis.paper.shortgpt import QUANTISED, named_in_paper, paper_n_removed
from analysis.pruning.speed import memory
from analysis.quantization import findings
from analysis.quantization.gptq import GROUPS, SCHEMES, Recipe, require, widest
from analysis.quantization.variants import Variant, Variants, lowest
from analysis.runs.budgets import Takes
from analysis.runs.settings import RunConfig
from analysis.runs.tables import tidy
from analysis.stats.intervals import Array, Interval, ratio
from analysis.tasks import TaskSet

CALIBRATION = 32  # documents of calibration text at least
DENSE, INT8, GPTQ = ("dense", ""), ("int8", ""), ("gptq", "")  # keys of variants, see Variant
LESS, BOTH, BEFORE = ("dense", "after"), ("gptq", "after"), ("gptq", "before")
LIMITS = (
    "These results are for one model, one kind of text and one set of removed blocks, without retraining. Losses are those of the "
    "quantised weights computed with as floats: they say nothing about speed. A model converted from a quantised file, as the offline "
    "smollm2 from 4 bits, has already paid part of the cost."
)


@dataclass(frozen=True)
class Quantised(Result):
    """Results of one model: its variants, scored on the same held-out text."""

    model: BlockModel
    text: Text
    calibration: Text
    removed: tuple[int, ...]
    chosen: tuple[int, ...] | None  # what Block Influence takes out of the GPTQ model; None: the model was quantised before
    weights: str  # how GPTQ's are held
    variants: dict[tuple[str, str], Variant]
    tokens: Array

    def title(self, key: tuple[str, str]) -> str:
        scheme, order = key
        blocks = f"{count(len(self.removed), 'block')} removed"
        title = SCHEMES[scheme].title if scheme in SCHEMES else ("as it is" if self.model.spec.quantised else "original")
        if scheme == "dense":
            return blocks if order else title
        return {"": title, "after": f"{title}, then {blocks}", "before": f"{blocks}, then {title}"}[order]

    def rise(self, key: tuple[str, str], base: tuple[str, str] = DENSE) -> Interval:
        """Of the loss over that of `base`, in nats per token, paired over documents."""
        return ratio(self.variants[key].nll - self.variants[base].nll, self.tokens)

    @cached_property
    def rises(self) -> pd.DataFrame:
        """One row a variant: title, `half` bytes, the rise in loss and its interval."""
        rows = [(self.title(key), variant.half, *self.rise(key)) for key, variant in self.variants.items()]
        return tidy(rows, ["model", "half", "value", "ci_low", "ci_high"])

    @cached_property
    def table(self) -> pd.DataFrame:
        """Table 2, as text and numbers."""
        rows = []
        for key, v in self.variants.items():
            perplexity = float(np.exp(v.nll.sum() / self.tokens.sum()))
            rise = "" if key == DENSE else bounded(self.rise(key))
            rows.append(
                (self.title(key), v.parameters / 1e6, v.file / 1e6, v.half / 1e6, perplexity, rise, *map(bounded, v.tasks.values()))
            )
        names = ["model", "parameters (M)", "file (MB)", "with 16-bit floats (MB)", "perplexity", "rise in loss"]
        return pd.DataFrame(rows, columns=[*names, *next(iter(self.variants.values())).tasks])

    @property
    def about_tasks(self) -> str:
        """What the columns of benchmarks hold; a sentence for captions."""
        if not next(iter(self.variants.values())).tasks:
            return ""
        return f" Accuracy is {METRIC} of lm_eval; a task without options has its loss, in nats per token."

    @property
    def paper(self) -> pd.DataFrame:
        """Table 2 of the paper (v1); no rows for other models."""
        name = self.model.spec.name.lower().removesuffix("-gptq")
        rows = QUANTISED if named_in_paper(name) == "llama-2-7b" else ()
        return pd.DataFrame(rows, columns=["paper, v1", "blocks", "perplexity", "MMLU"])

    @property
    def n_documents(self) -> int:
        return len(self.tokens)

    @property
    def described(self) -> str:
        quantised = self.model.spec.quantised
        return super().described + (f", {quantised}" if quantised else "")

    @property
    def measured(self) -> dict[str, str]:
        """What was measured and on what."""
        c = self.calibration
        return {
            "Quantised": self.weights,
            "Removed": f"{named('block', self.removed)} (0-based), the lowest by Block Influence on calibration text",
            "Calibration": f"{c.corpus}, {count(c.documents, 'document')} of {c.window} tokens, seed {c.seed}",
            "Losses": read(self.text, "held-out", self.n_documents, int(self.tokens.sum())),
            "In memory": f"as much as the file where packed weights are computed with; here floats, {memory(self.model) / 1e6:,.0f} MB "
            f"in {self.model.precision} with every block",
        }

    @cached_property
    def conclusion(self) -> str:
        """What each costs, whether the order matters and whether costs add up: one family of effects."""
        nll, alone = {key: v.nll for key, v in self.variants.items()}, [key for key in (INT8, GPTQ, LESS) if key in self.variants]
        differences = [nll[key] - nll[DENSE] for key in alone]
        if self.chosen is not None:
            differences += [nll[BEFORE] - nll[BOTH], nll[BOTH] - nll[GPTQ] - nll[LESS] + nll[DENSE]]
        effects = findings.effects(np.array(differences), self.tokens)
        said = [findings.cost(capital(self.title(key)), effect) for key, effect in zip(alone, effects, strict=False)]
        if self.chosen is not None:
            said += [findings.order(effects[-2]), findings.together(effects[-1])]
            said.append(findings.same_blocks(self.removed, self.chosen, SCHEMES["gptq"].title))
        return " ".join([*said, self._sizes])

    @property
    def _sizes(self) -> str:
        """What is left of the file, floats counted at 16 bits."""
        dense = self.variants[DENSE].half
        keys = [key for key in (GPTQ, LESS, BOTH) if key in self.variants]
        shares = ", ".join(f"{number(100 * self.variants[key].half / dense)}\u00a0% ({self.title(key)})" for key in keys)
        return f"With 16 bits per float, the file shrinks to {shares} of the original."

    limits = LIMITS


def takes(spec: ModelSpec) -> Takes:
    """Quantising a model and its pruned forms. Raises StrataError on a model that cannot be, with the reason."""
    require(spec)
    widths = sorted({w for b in spec.blocks for w in (spec.d_model, b.d_ffn, (b.n_heads or 0) * (b.head_dim or 0))})
    if any(width % min(GROUPS) for width in widths):
        raise StrataError(f"its rows have {', '.join(map(str, widths))} weights, which groups of {min(GROUPS)} do not divide")
    return Takes({"quantised models": 80 * spec.flops_per_token}, 8)


def quantization(source: str, model: BlockModel, config: RunConfig, tasks: Sequence[TaskSet] = ()) -> Quantised:
    """Quantises `model`, loaded from `source`, before and after blocks are removed, and scores all on held-out text.

    Quantised checkpoints are kept beside the runs. A model that is quantised already is only measured and pruned.
    Raises StrataError as `gptq.Recipe.make` and `has_options` do.
    """
    for one in tasks:
        has_options(one)  # before anything is scored
    if not model.spec.quantised:
        require(model.spec)
    config = config.within(model)
    some = plan(model.spec, [Ablation(blocks=frozenset(range(paper_n_removed(len(model.spec.blocks)))))])
    text = config.text().at_most(config.size(model, some), model)
    calibration = text.calibration(model, max(CALIBRATION, -(-2 * widest(model) // text.window)))
    job = Variants(
        model,
        Source.of(source, model.spec),
        text,
        calibration,
        lowest(model, calibration, config.progress),
        config,
        tasks,
    )
    found, chosen = job.run()
    weights = model.spec.quantised or "; ".join(_words(job.recipe(scheme)) for scheme in SCHEMES)
    variants = {(v.scheme, v.order): v for v in found}
    return Quantised(model, text, calibration, job.removed, chosen, weights, variants, job.scores(model)["tokens"])


def _words(recipe: Recipe) -> str:
    scheme, size = SCHEMES[recipe.scheme], recipe.weights.get("group_size")
    return f"{scheme.title}: {scheme.bits}-bit weights, {f'groups of {size}' if size else 'rounded to nearest, one scale a row'}, symmetric"
