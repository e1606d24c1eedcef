"""By how much one model is worse than another: losses of the same bytes and answers to the same questions, paired."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from adapters.base import BlockModel
from adapters.checkpoints.lineage import Ancestor
from adapters.errors import StrataError
from adapters.specs import ModelSpec
from analysis.data.batches import Text, tokenizer_hash, tokenizer_of
from analysis.display.format import bounded, count, named, needed
from analysis.runs.settings import run_folder
from analysis.runs.sweep_run import SweepStudy
from analysis.runs.tables import tidy
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, RATE, Interval, differs_from_zero, p_values
from analysis.tasks import TaskSet
from analysis.tasks.study import PAIRED, Sums, TaskStudy, interval, of_documents

COLUMNS = ["model", "than", "dataset", "metric", "value", "other", "difference", "ci_low", "ci_high", "significant", "n_documents"]
UNITS = {"nll": "nats per token", "bits_per_byte": "bits per byte"}
CHANCE = "above_chance"  # of accuracy: whether a model only guesses
WORSE_WHEN_HIGHER = (*UNITS, "log_loss", "brier")


class Known(NamedTuple):
    """One of the models."""

    spec: ModelSpec
    ancestors: tuple[Ancestor, ...]
    sums: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]]  # by dataset and metric: sums and counts of each document
    read: str = ""  # what was read of the corpus, and what was skipped


@dataclass(frozen=True)
class Difference:
    """Each of several models against the first: a row of `table` for each measure, whose intervals are paired over documents."""

    models: Sequence[Known]

    @property
    def table(self) -> pd.DataFrame:
        """COLUMNS; the difference is `value` of the model less that of the `other` one, the first.

        `significant`: by a t-test over documents, false discoveries held to 5 % over all rows; False without enough documents.
        """
        first, *others = self.models
        rows, tests = [], []
        for model in others:
            for (dataset, metric), (sums, counts) in model.sums.items():
                their, same = first.sums.get((dataset, metric), (sums, counts * np.nan))
                if metric == CHANCE or not np.array_equal(counts, same):  # tokens of another tokenizer
                    continue
                values = (float(s.sum() / counts.sum()) for s in (sums, their))
                rows.append(
                    [model.spec.name, first.spec.name, dataset, metric, *values, *interval(metric, sums, counts, their), 0, len(counts)]
                )
                tests.append(p_values((sums - their)[None], counts)[0] if len(counts) >= MIN_DOCUMENTS_FOR_CI else 1.0)
        for row, adjusted in zip(rows, stats.false_discovery_control(tests) if tests else (), strict=True):
            row[COLUMNS.index("significant")] = bool(adjusted <= RATE)
        return tidy(rows, COLUMNS)

    @property
    def guesses(self) -> list[str]:
        """Where the first model is no better than chance, so that answers say nothing; a sentence each."""
        first = self.models[0]
        found = {
            dataset: differs_from_zero(sums[None], counts) for (dataset, metric), (sums, counts) in first.sums.items() if metric == CHANCE
        }
        return [
            f"{first.spec.name} is not significantly better than chance on {dataset}: changes of its accuracy mean nothing"
            for dataset, test in found.items()
            if not (test.significant[0] and first.sums[dataset, CHANCE][0].mean() > 0)
        ]

    @property
    def kin(self) -> list[str]:
        """Which of the models were pruned from which others."""
        return [said for child in self.models for parent in self.models if (said := kinship(child, parent.spec))]

    @property
    def read(self) -> str:
        """What was read of the corpus, the same for all models, and what was skipped."""
        return self.models[0].read

    @property
    def sentences(self) -> list[str]:
        """One for each row of the table."""
        return [_sentence(row) for row in self.table.to_dict("records")]


def difference(
    names: Sequence[str], load: Callable[[str], BlockModel], text: Text, tasks: Sequence[TaskSet] = (), *, out: Path
) -> Difference:
    """Losses of all models on the same held-out bytes, and their answers to the tasks; runs are kept in `out`.

    In nats per token where all read text alike, and in bits per byte. Models are loaded one at a time. Raises StrataError for a
    single model, for models of one name, and for tasks whose answers are written.
    """
    if len(names) < 2:
        raise StrataError(f"{len(names)} model cannot be compared: name two or more, the one that others are held against first")
    readers = [(model.spec, tokenizer_of(model)) for model in map(load, names)]
    if len({spec.name for spec, _ in readers}) < len(readers):
        raise StrataError(f"several models have the same name ({', '.join(spec.name for spec, _ in readers)}): rename a folder")
    alike = len({tokenizer_hash(tokenizer) for _, tokenizer in readers}) == 1
    window = min(text.window, *(spec.max_len - 1 for spec, _ in readers))
    text = replace(text, window=window, tokenizers=() if alike else tuple(tokenizer for _, tokenizer in readers))
    return Difference([_measure(load(name), text, tasks, alike, out) for name in names])


def _measure(model: BlockModel, text: Text, tasks: Sequence[TaskSet], alike: bool, out: Path) -> Known:
    study = SweepStudy.of(model, [], text, kl=False)
    found = study.scores(run_folder(out, study.identity))
    sums: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}
    if alike:
        sums[text.corpus, "nll"] = found["nll"][0], found["tokens"]
    sums[text.corpus, "bits_per_byte"] = found["nll"][0] / np.log(2), found["bytes"]
    for task in tasks:
        for name, each in _answers(TaskStudy.of(model, [], task), out).items():
            sums |= {(name, metric): values for metric, values in each.items() if metric in (*PAIRED, CHANCE)}
    return Known(model.spec, model.ancestors, sums, text.reading(model).sentence)


def _answers(study: TaskStudy, out: Path) -> dict[str, Sums]:
    return {name: each[0] for name, each in of_documents(study, *study.scores(run_folder(out, study.identity))).items()}


def kinship(child: Known, parent: ModelSpec) -> str:
    """That a model was pruned from another, and what is gone; empty where it was not."""
    found = next((one for one in child.ancestors if one.hash == parent.source_hash), None)
    if found is None:
        return ""
    gone = sorted(set(range(found.blocks)) - set(found.kept))
    without = [f"without {named('block', gone)} of its {found.blocks}"] if gone else []
    without += [f"with {found.cut}"] if found.cut else []
    return f"{child.spec.name} is {parent.name} {' and '.join(without)}"


def _sentence(row: Mapping[Any, Any]) -> str:
    """ "x is worse than y on texts by 0.12 (0.10 to 0.14) nats per token, over 64 documents"; "differs from" where not significant."""
    size, n = Interval(row["difference"], *(None if pd.isna(row[end]) else row[end] for end in ("ci_low", "ci_high"))), row["n_documents"]
    unit, worse = UNITS.get(row["metric"], row["metric"]), (row["metric"] in WORSE_WHEN_HIGHER) == (size.value > 0)
    if size.low is None or size.high is None or not row["significant"]:
        how, by = "differs from", size
    else:
        how = f"is {'worse' if worse else 'better'} than"
        by = size if size.value > 0 else Interval(-size.value, -size.high, -size.low)
    open_ = "" if size.low is None or how != "differs from" else ", not significantly"
    said = f"{row['model']} {how} {row['than']} on {row['dataset']} by {bounded(by)} {unit}"
    return f"{said}, over {count(n, 'document')}{open_}{needed(size, n)}"
