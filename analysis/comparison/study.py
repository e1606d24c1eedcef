"""Comparison: several models on the same bytes, block by block, and how redundant each of them is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate, pairwise
from operator import or_
from typing import NamedTuple

import numpy as np

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.specs import ModelSpec
from adapters.tokenizers import Tokenizer
from analysis.comparison.measured import Compared, Measured, Rises
from analysis.data.batches import Text, tokenizer_hash
from analysis.data.documents import require_disjoint, sample
from analysis.data.unigram import unigram_bits
from analysis.depth import study as depth
from analysis.display.format import minutes
from analysis.engine.ablations import block_kinds, single_ablations
from analysis.engine.cost import cost
from analysis.engine.plan import plan
from analysis.metrics.study import ImportanceStudy
from analysis.removal.paths import score, union, up_to
from analysis.removal.savings import MEASURES
from analysis.runs.budgets import Takes
from analysis.runs.run import Run
from analysis.runs.settings import RunConfig, progress_fraction, run_folder
from analysis.runs.single_removals import SingleRemovals
from analysis.runs.sweep_run import SweepStudy
from analysis.stats.intervals import Array
from analysis.stats.rank_agreement import Scores
from analysis.width.head_orders import Removals
from analysis.width.study import HEADS, heads_flops
from analysis.zoo.groups import Facts, groups

Load = Callable[[str], BlockModel]
PARAMETERS = next(iter(MEASURES))
SHARE, POINTS = 0.1, 12  # of the blocks' parameters, at which depth and width are compared, in at most so many sets up to there
WIDE = "heads against blocks"  # what is scored, by name; at a budget without a limit of time


def compare(names: Sequence[str], load: Load, facts: Facts, config: RunConfig) -> Compared:
    """Sweeps blocks, mixers, ffns and heads, and a removal path of blocks, of every model on the same held-out bytes.

    Models are loaded one at a time, and share the budget's time. `facts`: of the models that come from one training
    (`groups.zoo_facts`).
    Raises StrataError for a single model, models that cannot be told apart by name, models that cannot read the same
    text, a seed group with unequal budgets, and weights that are not those that `facts` are of.
    """
    if len(names) < 2:
        raise StrataError(f"{len(names)} model cannot be compared: name two or more, for example zoo-llama-0 and zoo-rwkv5-0")
    if len(set(names)) < len(names):
        raise StrataError(f"a model is named twice: {', '.join(names)}")
    grouped = groups(names, facts)
    load = _checked(load, {member: of["weights"] for group in grouped for member, of in group.facts.items()})
    each = config.limited(1 / len(names))
    text, calibration = common(names, load, each)
    models = [measure(name, load(name), text, calibration, each) for name in names]
    short = {m.name: m.spec.name for m in models}
    named = [group if group.facts else replace(group, name=short[group.name]) for group in grouped]
    return Compared(models, named, text, calibration)


def _checked(load: Load, weights: Mapping[str, str]) -> Load:
    """With an error for a model whose weights are not the ones that are known of it, by name: what is known is of another training."""

    def loaded(name: str) -> BlockModel:
        model = load(name)
        if weights.get(name, model.spec.source_hash) != model.spec.source_hash:
            raise StrataError(f"{name} holds other weights than those its zoo.json tells of: give back its model.safetensors, or rename it")
        return model

    return loaded


def takes(spec: ModelSpec) -> Takes:
    """Of each model: its parts one at a time, its path, and heads where a model's share of the time holds them."""
    blocks = plan(spec, single_ablations(spec, ["blocks"])).flops_per_token
    passes = {**depth.takes(spec).passes, "removal order": blocks, "removal path": blocks}
    if spec.has_heads:
        passes |= {HEADS: (heads := heads_flops(spec)), WIDE: heads}
    return Takes(passes, 1, {HEADS: 1.0, WIDE: 1e-9})


class Reader(NamedTuple):
    """What there is to know of a model before it is measured."""

    name: str  # of its spec
    tokenizer: Tokenizer
    max_len: int
    documents: int  # that the budget holds


def common(names: Sequence[str], load: Load, config: RunConfig) -> tuple[Text, Text]:
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
    n = config.size(model, plan(model.spec, single_ablations(model.spec, block_kinds(model.spec))))
    return Reader(model.spec.name, model.tokenizer, model.spec.max_len, n)


def measure(name: str, model: BlockModel, text: Text, calibration: Text, config: RunConfig) -> Measured:
    """One model on `text`, with orders from `calibration`, both instead of the setting's. What other notebooks know is shared."""
    spec = model.spec
    singles = partial(_singles, model, config)
    of_blocks = block_kinds(spec)
    main = singles(of_blocks, text, "blocks, mixers and ffns")
    parts = {kind: single_ablations(spec, [kind]) for kind in of_blocks}
    ends = list(accumulate(map(len, parts.values()), initial=1))
    places = {kind: slice(*place) for kind, place in zip(parts, pairwise(ends), strict=True)}
    kinds = {kind: Rises(tuple(parts[kind]), _bits(main)[place.start - 1 : place.stop - 1]) for kind, place in places.items()}
    if not (heads := _no_heads(model, text, config)):
        kinds["heads"] = Rises(tuple(single_ablations(spec, ["heads"])), _bits(singles(["heads"], text, "heads")))
    influence = ImportanceStudy(model, calibration, kinds=of_blocks)
    advance = progress_fraction(config.progress, f"Block Influence of {spec.name}", calibration.documents)
    bi = influence.scores(run_folder(config.out, influence.identity), advance)
    skipped = heads or config.budget.seconds is not None
    against, in_heads = (None, math.nan) if skipped else _against(model, text, calibration, config)
    return Measured(
        name,
        spec,
        model.computed_in,
        kinds,
        _path(model, text, calibration, config),
        main["nll"][0] / np.log(2),
        unigram_bits(text.corpus, text.windows(model), main["bytes"]),
        main["bytes"],
        Scores(bi["bi"][: len(spec.blocks)], bi["real"]),
        heads,
        against,
        {kind: Scores(main["kl"][place], main["tokens"]) for kind, place in places.items()},
        {kind: Scores(bi["bi"][place.start - 1 : place.stop - 1], bi["real"]) for kind, place in places.items()},
        in_heads,
    )


def _bits(sums: Mapping[str, Array]) -> Array:
    """Rises in bits of all ablations but the dense model."""
    return (sums["nll"][1:] - sums["nll"][0]) / np.log(2)


def _singles(model: BlockModel, config: RunConfig, kinds: Sequence[str], text: Text, what: str) -> dict[str, Array]:
    return SingleRemovals(model, tuple(kinds), text, config.out).scores(config.progress, f"{what} of {model.spec.name}")


def lean(name: str, model: BlockModel, text: Text, calibration: Text, config: RunConfig, path: Sequence[Ablation] = ()) -> Measured:
    """As `measure`, of blocks and a removal path alone: `path`, or that of `measure`."""
    found = _singles(model, config, ["blocks"], text, "blocks")
    return Measured(
        name,
        model.spec,
        f"{str(model.dtype).removeprefix('torch.')} on {model.device.type}",
        {"blocks": Rises(tuple(single_ablations(model.spec, ["blocks"])), _bits(found))},
        removed(model, path, text, config, "removal path") if path else _path(model, text, calibration, config),
        found["nll"][0] / np.log(2),
        unigram_bits(text.corpus, text.windows(model), found["bytes"]),
        found["bytes"],
        Scores(np.zeros((0, len(found["bytes"]))), found["tokens"]),
        "not asked for",
    )


def _path(model: BlockModel, text: Text, calibration: Text, config: RunConfig) -> Rises:
    """Without the first 1 to n blocks, in the order of what each costs alone on calibration text."""
    blocks = single_ablations(model.spec, ["blocks"])
    costs = _bits(_singles(model, config, ["blocks"], calibration, "removal order")).sum(1)
    path = list(accumulate((blocks[i] for i in np.argsort(costs, kind="stable")), or_))
    return removed(model, path, text, config, "removal path")


def removed(model: BlockModel, path: Sequence[Ablation], text: Text, config: RunConfig, what: str) -> Rises:
    """What sets of parts cost on `text`."""
    study = SweepStudy.of(model, path, text, kl=False)
    advance = progress_fraction(config.progress, f"{what} of {model.spec.name}", study.steps * text.documents)
    return Rises(tuple(path), _bits(study.scores(run_folder(config.out, study.identity), advance)))


def _against(model: BlockModel, text: Text, calibration: Text, config: RunConfig) -> tuple[Rises | None, float]:
    """What blocks, and what heads cost that are SHARE of the blocks' parameters, each in the order of what single ones cost for what
    they save, and the share that all heads are; None where that is less.

    Of few blocks one may be more: that is a part of it, on the line from the dense model.
    """
    removals, kinds = Removals(model, config), ("blocks", "heads")
    scores = removals.causal(kinds, calibration)
    if scores is None:
        return None, math.nan
    ordered = {kind: removals.ordered(kind, scores[kind]) for kind in kinds}
    paths = {kind: up_to(parts, removals.shares(parts, PARAMETERS), SHARE, POINTS) for kind, parts in ordered.items()}
    study = SweepStudy.of(model, union(paths), text, kl=False)
    advance = progress_fraction(config.progress, f"depth against width of {model.spec.name}", study.steps * text.documents)
    scored = score(model, study.plan.ablations, study.scores(run_folder(config.out, study.identity), advance), paths)
    rises = [rise for kind in kinds if (rise := scored.curve(kind).rise(PARAMETERS, SHARE, below=True)) is not None]
    found = Rises((), np.stack(rises) / np.log(2)) if len(rises) == len(kinds) else None
    return found, float(removals.shares(ordered["heads"], PARAMETERS).sum())


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
