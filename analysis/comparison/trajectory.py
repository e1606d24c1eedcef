"""Redundancy over training: does it grow while a model learns, and equally in two trainings?"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from scipy.stats import false_discovery_control

from adapters.base import BlockModel
from adapters.catalogue import zoo
from adapters.errors import StrataError, unknown
from adapters.registry import load
from analysis.comparison import verdicts
from analysis.comparison.claims import Claim, Side, adjusted
from analysis.comparison.measured import Measured
from analysis.comparison.redundancy import SUMMARIES
from analysis.comparison.results import MAIN
from analysis.comparison.start import MEASURES, PARTS, Start, of_parts
from analysis.comparison.study import measure
from analysis.data.batches import tokenizer_hash
from analysis.display import style
from analysis.display.format import escape
from analysis.display.model_lines import bands
from analysis.display.sentences import Effect
from analysis.runs.settings import RunConfig
from analysis.runs.tables import tidy
from analysis.stats.estimates import Estimate, mean
from analysis.stats.intervals import ratio
from analysis.zoo.architectures import ARCHITECTURES
from analysis.zoo.groups import Facts, short, unlike
from analysis.zoo.release import finished

SHOWN = ("effective", MAIN)  # of SUMMARIES
TITLES = {"bits": "bits per byte", **{name: SUMMARIES[name].title for name in SHOWN}}
DOCUMENTS = 16
STEPS = (64, 128, 256, 512, 1024)  # of the kept ones, between the first and the last
NOTHING = Estimate(np.nan, np.zeros(0), 0)
Checkpoints = Mapping[int, Callable[[], BlockModel]]  # by step, loaded when they are needed


def parts_of(measure: str) -> dict[str, str]:
    """What parts do by one of MEASURES: the measure of rows, and its title, of each kind."""
    return {f"{measure} of {kind}": f"{MEASURES[measure]} of {kind}" for kind in PARTS}


@dataclass(frozen=True)
class Trajectory:
    """Measures of several trainings at several steps, on the same bytes."""

    trainings: Mapping[str, Mapping[int, Measured]]  # by name and step

    @cached_property
    def rows(self) -> pd.DataFrame:
        """As `plots.training` takes them; a summary is missing at steps without a gain over the byte unigram."""
        rows = []
        for name, steps in self.trainings.items():
            for step, m in sorted(steps.items()):
                found = {"bits": ratio(m.dense, m.bytes)} | {key: m.summaries[key].interval.within(0, 1) for key in SHOWN}
                found |= {f"{measure} of {kind}": e.interval for (measure, kind), e in of_parts(m).items()}
                label = (name, architecture(name), style.architecture(m.spec.family), step)
                rows += [(*label, key, *interval) for key, interval in found.items() if np.isfinite(interval.value)]
        columns = ["model", "group", "architecture", "step", "measure", "value", "ci_low", "ci_high"]
        return tidy(rows, columns)

    @property
    def titles(self) -> dict[str, str]:
        """Of the measures that have rows: a panel for each."""
        return {measure: title for measure, title in TITLES.items() if (self.rows["measure"] == measure).any()}

    def titles_of(self, measure: str) -> dict[str, str]:
        """The same of what parts do by a measure of `analysis.comparison.start.MEASURES`."""
        return {key: title for key, title in parts_of(measure).items() if (self.rows["measure"] == key).any()}

    @cached_property
    def start(self) -> Start:
        """Step 0 beside the last, of the trainings that have both."""
        found: dict[str, list[tuple[Measured, Measured]]] = {}
        for name, steps in self.trainings.items():
            if 0 in steps and len(steps) > 1:
                found.setdefault(architecture(name), []).append((steps[0], steps[max(steps)]))
        return Start(found)

    @property
    def bands(self) -> str:
        """What the bands of a figure are; a sentence for captions."""
        return bands(self.n_documents, len(set(map(architecture, self.trainings))) < len(self.trainings))

    @property
    def n_documents(self) -> int:
        return len(next(iter(next(iter(self.trainings.values())).values())).bytes)

    @cached_property
    def conclusion(self) -> str:
        """A Markdown list: growth of each training, and architectures beside each other; false discoveries held to 5 %."""
        learnt = {name: _with_a_gain(steps) for name, steps in self.trainings.items()}
        first = max((steps[0] for steps in learnt.values() if len(steps) > 1), default=0)  # one for all: growths are compared
        ends = {name: _ends(steps, [s for s in learnt[name] if s >= first]) for name, steps in self.trainings.items()}
        growths = {name: last - first for name, (_, first, _, last) in ends.items()}
        seeds: dict[str, list[Estimate]] = {}
        for name, growth in growths.items():
            seeds.setdefault(architecture(name), []).append(growth)
        sides = {title: Side(escape(title), tuple(growth.value for growth in of)) for title, of in seeds.items()}
        pairs = [(a, b) for a, b in combinations(seeds, 2) if not unlike(a, b)]
        gaps = [mean(seeds[a]) - mean(seeds[b]) for a, b in pairs]
        changes = [*growths.values(), *gaps]
        significant = false_discovery_control([change.p for change in changes]) <= 0.05
        effects = [Effect(change.interval, bool(yes), self.n_documents) for change, yes in zip(changes, significant, strict=True)]
        summary = SUMMARIES[MAIN]
        said = [
            verdicts.over_training(escape(name), summary, ends[name][0], ends[name][2], effect)
            for name, effect in zip(growths, effects, strict=False)
        ]
        between = zip(pairs, effects[len(growths) :], strict=True)
        claims = adjusted([Claim(MAIN, sides[a], sides[b], effect, "equal tokens") for (a, b), effect in between])
        said += map(verdicts.equally, claims)
        return "\n".join(f"- {sentence}" for sentence in said if sentence)


def _with_a_gain(steps: Mapping[int, Measured]) -> list[int]:
    """Step 0 is none of them: what is drawn at random, or starts at zero as matrices of RWKV do, is redundant before anything is learnt."""
    return [step for step, m in sorted(steps.items()) if step > 0 and m.gain_over_unigram.sum() > 0]


def _ends(steps: Mapping[int, Measured], known: Sequence[int]) -> tuple[int, Estimate, int, Estimate]:
    """First and last of the `known` steps, and the summary there; without a value where they are not two."""
    if len(known) < 2:
        return 0, NOTHING, max(steps), NOTHING
    first, last = known[0], known[-1]
    return first, steps[first].summaries[MAIN], last, steps[last].summaries[MAIN]


def architecture(training: str) -> str:
    """Short name of a training's architecture; its own name where that is not known."""
    found = ARCHITECTURES.get(training.rsplit("-", 1)[0])
    return short(found.title) if found else training


def trajectory(trainings: Mapping[str, Checkpoints], config: RunConfig) -> Trajectory:
    """Measures every checkpoint of every training on the same windows, DOCUMENTS of them where none are asked for, without heads.

    Raises StrataError when there is no checkpoint, or when the trainings do not share a tokenizer.
    """
    found: dict[str, dict[int, Measured]] = {name: {} for name in trainings}
    tokenizers: set[str] = set()
    config = replace(config, budget=replace(config.budget, seconds=0.0))  # heads do not fit
    documents = config.documents or DOCUMENTS
    for name, checkpoints in trainings.items():
        if not checkpoints:
            raise StrataError(f"{name} has no checkpoints: expected one training at several steps")
        for step, get in sorted(checkpoints.items()):
            model = get()
            if model.tokenizer is not None:
                tokenizers.add(tokenizer_hash(model.tokenizer))
            if len(tokenizers) > 1:
                raise StrataError(f"{name} has another tokenizer: trainings are compared on the same bytes, so give them one")
            text = config.within(model).text().at_most(documents, model)
            calibration = text.calibration(model, documents)
            found[name][step] = measure(f"{name} at {step}", model, text, calibration, config)
    return Trajectory(found)


def trainings(folder: Path, device: str = "auto") -> dict[str, Checkpoints]:
    """The trainings in the zoo's working folder that reached their last step, at STEPS of it. Raises StrataError when there are none."""
    return {t.name: checkpoints(t.folder, sorted({0, *(s for s in STEPS if s < t.steps), t.steps}), device) for t in finished(folder)}


def released(facts: Facts, device: str = "auto") -> dict[str, Checkpoints]:
    """The released trainings at their start, which follows from architecture and seed, and at their end.

    `facts`: of the zoo's models, by catalogue name (`analysis.zoo.groups.zoo_facts`); checkpoints at equal loss are passed over.
    """
    found: dict[str, Checkpoints] = {}
    for model, of in facts.items():
        if not of["equals"]:
            found[of["name"]] = {0: partial(_first, of["name"], zoo()[model], device), of["steps"]: partial(_last, model, device)}
    return found


def _first(name: str, folder: Path, device: str) -> BlockModel:
    """As training begins; `folder` holds its tokenizer."""
    model, seed = name.rsplit("-", 1)
    made = ARCHITECTURES[model]
    weights, blocks = made.initial(torch.Generator().manual_seed(int(seed)))
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "000000.safetensors"
        save_file({key: t.half() for key, t in made.layout.write(weights, blocks).items()}, path)
        return _load(folder.with_name(name), path, device, folder / "tokenizer.json")


def _last(model: str, device: str) -> BlockModel:
    return load(model, device=device, dtype="float32")


def checkpoints(folder: Path, steps: Sequence[int] = (), device: str = "auto") -> Checkpoints:
    """The kept weights of one training in the zoo's working folder (`python -m analysis.zoo`): all, or those of `steps`.

    Raises StrataError when there are none, or not those, and when the folder is not named after an architecture and a seed.
    """
    if (name := folder.name.rsplit("-", 1)[0]) not in ARCHITECTURES:
        raise unknown("architecture", name, ARCHITECTURES)
    there = {int(path.stem): path for path in sorted(folder.glob("weights/*.safetensors")) if path.stem.isdecimal()}
    if missing := set(steps or there) - there.keys() or not there:
        raise StrataError(
            f"{folder} holds weights of the steps {sorted(there)}, requested were {missing or 'any'}: train first, or name others"
        )
    return {step: lambda step=step: _load(folder, there[step], device) for step in steps or there}  # type: ignore[misc]


def _load(folder: Path, weights: Path, device: str, tokenizer: Path | None = None) -> BlockModel:
    with _as_model(folder, weights, tokenizer or folder / "tokenizer.json") as model:
        return load(model, device=device, dtype="float32")


@contextmanager
def _as_model(folder: Path, weights: Path, tokenizer: Path) -> Iterator[str]:
    """A model folder of links to one checkpoint."""
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / f"{folder.name}-{weights.stem}"
        made.mkdir()
        (made / "config.json").write_text(json.dumps(ARCHITECTURES[folder.name.rsplit("-", 1)[0]].config))
        for name, target in (("model.safetensors", weights), ("tokenizer.json", tokenizer)):
            os.symlink(target.resolve(), made / name)
        yield str(made)
