"""Comparison: several models on the same bytes, block by block, and how redundant each of them is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import or_
from typing import NamedTuple

import numpy as np

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.specs import ModelSpec
from adapters.tokenizers import Tokenizer
from analysis.comparison.redundancy import SUMMARIES, estimate
from analysis.data.batches import Text, tokenizer_hash
from analysis.data.documents import require_disjoint, sample
from analysis.data.unigram import unigram_bits
from analysis.depth import study as depth
from analysis.depth.study import KINDS
from analysis.display.format import minutes
from analysis.engine.ablations import single_ablations
from analysis.engine.cost import cost
from analysis.engine.plan import plan
from analysis.metrics.study import ImportanceStudy
from analysis.runs.budgets import Takes
from analysis.runs.run import Run
from analysis.runs.settings import RunConfig, progress_fraction, run_folder
from analysis.runs.single_removals import SingleRemovals
from analysis.runs.sweep_run import SweepStudy
from analysis.stats.estimates import Estimate
from analysis.stats.intervals import Array
from analysis.stats.rank_agreement import Scores
from analysis.width.study import HEADS, heads_flops
from analysis.zoo.groups import Facts, Group, groups

Load = Callable[[str], BlockModel]
UNITS = {"bits": "bits per byte", "share": "share of the gain"}  # of a loss: absolute, and relative to the gain over unigram


class Rises(NamedTuple):
    """What removals cost on held-out text: bits more than the dense model, of each ablation and document (ablations, D)."""

    ablations: tuple[Ablation, ...]
    bits: Array


@dataclass(frozen=True)
class Measured:
    """Results of one model."""

    name: str
    spec: ModelSpec
    computed: str  # in which dtype and on what
    singles: dict[str, Rises]  # by kind; heads only where there are heads and time for them
    path: Rises  # without the first 1 to n blocks, cheapest first on calibration text
    dense: Array  # (D,) bits, of the same bytes for every model
    unigram: Array  # (D,) bits of a byte unigram
    bytes: Array  # (D,)
    bi: Scores  # Block Influence on calibration text
    heads: str  # why there are no heads; empty where there are

    def losses(self, rises: Rises, unit: str) -> Scores:
        """Rises over bytes, or over the model's gain over the byte unigram."""
        return Scores(rises.bits, self.bytes if unit == "bits" else self.gain_over_unigram)

    @property
    def gain_over_unigram(self) -> Array:
        """Bits that the model saves against the unigram, by document."""
        return self.unigram - self.dense

    @property
    def summaries(self) -> dict[str, Estimate]:
        """By name, as in SUMMARIES."""
        return {
            name: estimate(s.of, self.losses(self.path if s.path else self.singles["blocks"], "share"), steps=s.steps)
            for name, s in SUMMARIES.items()
        }


@dataclass(frozen=True)
class Compared:
    """Results of several models on the same bytes, and which of them differ in their seed alone."""

    models: list[Measured]
    groups: list[Group]
    text: Text
    calibration: Text


def compare(names: Sequence[str], load: Load, facts: Facts, config: RunConfig) -> Compared:
    """Sweeps blocks, mixers, ffns and heads, and a removal path of blocks, of every model on the same held-out bytes.

    Models are loaded one at a time, and share the budget's time. `facts`: of the models that come from one training
    (`groups.zoo_facts`).
    Raises StrataError for a single model, models that cannot be told apart by name, models that cannot read the same
    text, and a seed group with unequal budgets.
    """
    if len(names) < 2:
        raise StrataError(f"{len(names)} model cannot be compared: name two or more, for example zoo-llama-0 and zoo-rwkv5-0")
    if len(set(names)) < len(names):
        raise StrataError(f"a model is named twice: {', '.join(names)}")
    grouped = groups(names, facts)
    each = config.limited(1 / len(names))
    text, calibration = _common(names, load, each)
    models = [measure(name, load(name), text, calibration, each) for name in names]
    short = {m.name: m.spec.name for m in models}
    named = [group if group.facts else replace(group, name=short[group.name]) for group in grouped]
    return Compared(models, named, text, calibration)


def takes(spec: ModelSpec) -> Takes:
    """Of each model: its parts one at a time, its path, and heads where a model's share of the time holds them."""
    blocks = plan(spec, single_ablations(spec, ["blocks"])).flops_per_token
    passes = {**depth.takes(spec).passes, "removal order": blocks, "removal path": blocks}
    return Takes(passes | ({HEADS: heads_flops(spec)} if spec.has_heads else {}), 1, {HEADS: 1.0})


class Reader(NamedTuple):
    """What there is to know of a model before it is measured."""

    name: str  # of its spec
    tokenizer: Tokenizer
    max_len: int
    documents: int  # that the budget holds


def _common(names: Sequence[str], load: Load, config: RunConfig) -> tuple[Text, Text]:
    """Held-out and calibration text that all models can read, cut for all of them."""
    readers = [_reader(name, load(name), config) for name in names]
    if len({r.name for r in readers}) < len(readers):
        raise StrataError(f"several models have the same name ({', '.join(r.name for r in readers)}): rename a folder")
    window = min(config.budget.window, *(reader.max_len - 1 for reader in readers))
    tokenizers = tuple(reader.tokenizer for reader in readers)
    text = replace(config.text(), window=window, tokenizers=tokenizers)
    asked = {"models": list(names), "text": text.identity | {"read by": sorted(map(tokenizer_hash, tokenizers))}}
    run = Run(run_folder(config.out, {"model": {"name": "all"}, **asked}), asked)
    n = config.documents or run.planned([]) or min(reader.documents for reader in readers)
    corpus, seed = config.corpus, config.seed
    held_out = sample(corpus, n, window, tokenizers, seed=seed, fewer=True)
    calibration = sample(corpus, len(held_out), window, tokenizers, split="calibration", seed=seed, fewer=True)
    require_disjoint(held_out, calibration)
    run.ask([], [w.id for w in held_out])
    text = replace(text, documents=len(held_out))
    return text, replace(text, split="calibration", documents=len(calibration))


def _reader(name: str, model: BlockModel, config: RunConfig) -> Reader:
    if model.tokenizer is None:
        raise StrataError(f"the models have no common corpus: {name} comes without a tokenizer; put its tokenizer.json beside its weights")
    n = config.size(model, plan(model.spec, single_ablations(model.spec, KINDS)))
    return Reader(model.spec.name, model.tokenizer, model.spec.max_len, n)


def measure(name: str, model: BlockModel, text: Text, calibration: Text, config: RunConfig) -> Measured:
    """One model on `text`, with orders from `calibration`, both instead of the setting's. What other notebooks know is shared."""

    def singles(kinds: Sequence[str], text: Text, what: str) -> dict[str, Array]:
        return SingleRemovals(model, tuple(kinds), text, config.out).scores(config.progress, f"{what} of {model.spec.name}")

    def rises(ablations: Sequence[Ablation], found: Mapping[str, Array]) -> Rises:
        return Rises(tuple(ablations), (found["nll"][1:] - found["nll"][0]) / np.log(2))

    spec = model.spec
    blocks = single_ablations(spec, ["blocks"])
    parts = single_ablations(spec, KINDS)
    main = singles(KINDS, text, "blocks, mixers and ffns")
    every = rises(parts, main)
    n = len(blocks)
    kinds = {kind: Rises(every.ablations[i * n : i * n + n], every.bits[i * n : i * n + n]) for i, kind in enumerate(KINDS)}
    found = singles(["blocks"], calibration, "removal order")
    cheapest_first = np.argsort(rises(blocks, found).bits.sum(1), kind="stable")
    path = list(accumulate((blocks[i] for i in cheapest_first), or_))
    study = SweepStudy.of(model, path, text, kl=False)
    advance = progress_fraction(config.progress, f"removal path of {spec.name}", study.steps * text.documents)
    nested = rises(path, study.scores(run_folder(config.out, study.identity), advance))
    if not (heads := _no_heads(model, text, config)):
        kinds["heads"] = rises(single_ablations(spec, ["heads"]), singles(["heads"], text, "heads"))
    influence = ImportanceStudy(model, calibration)
    advance = progress_fraction(config.progress, f"Block Influence of {spec.name}", calibration.documents)
    bi = influence.scores(run_folder(config.out, influence.identity), advance)
    return Measured(
        name,
        spec,
        f"{str(model.dtype).removeprefix('torch.')} on {model.device.type}",
        kinds,
        nested,
        main["nll"][0] / np.log(2),
        unigram_bits(text.corpus, text.windows(model), main["bytes"]),
        main["bytes"],
        Scores(bi["bi"], bi["real"]),
        heads,
    )


def _no_heads(model: BlockModel, text: Text, config: RunConfig) -> str:
    """Why heads are not swept; empty where they are, or have been before."""
    if not model.spec.has_heads:
        return "has none"
    heads = SingleRemovals(model, ("heads",), text, config.out)
    most = config.budget.seconds
    if most is None or heads.planned:
        return ""
    seconds = cost(model, heads.plan, text.documents, text.window).seconds
    return "" if seconds <= most else f"skipped, about {minutes(seconds)}: use the full budget"
