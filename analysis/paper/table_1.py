"""What ShortGPT prints about methods: Table 1 of its first version (arXiv 2403.03853v1), whose averages v3 corrected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.paper.shortgpt import named_in_paper

VERSION = "v1"
ROUNDING = 0.05  # points by which a printed mean or share may be off, and no more
COLUMNS = ("CMNLI", "HellaSwag", "PIQA", "CHID", "WSC", "CoQA", "BoolQ", "Race-H", "Race-M", "XSum", "C3", "MMLU", "CMMLU")

WRITTEN = ("CoQA", "XSum")  # scores of generated text, which no loss of an answer stands beside
# Tasks that a column is of.
TASKS = {name.lower(): name for name in COLUMNS if name not in WRITTEN} | {"race": "Race-H", "race_middle": "Race-M"}


class Printed(NamedTuple):
    """One row, in per cent."""

    method: str
    removed: float  # of all parameters
    scores: Sequence[float]  # by COLUMNS
    average: float
    retained: float  # of the dense model's average

    @property
    def mean(self) -> float:
        """Of the scores that are printed."""
        return float(np.mean(self.scores))

    def score(self, task: str) -> float | None:
        """Of a task by its name here; None when the paper has none that compares."""
        return self.scores[COLUMNS.index(TASKS[task])] if task in TASKS else None

    def over(self, tasks: Sequence[str]) -> float:
        """Mean of the scores of tasks in TASKS, at least one."""
        return float(np.mean([score for task in tasks if (score := self.score(task)) is not None]))

    def contradictions(self, dense: Printed) -> list[str]:
        """What does not follow from the other numbers of the row, and of the dense model's."""
        wrong = {
            "the average is not the mean of the scores": abs(self.average - self.mean) > ROUNDING,
            "the retained share is not that of the averages": abs(self.retained - 100 * self.average / dense.average) > ROUNDING,
        }
        return [what for what, is_so in wrong.items() if is_so]


TABLE = {
    "llama-2-7b": (
        Printed("Dense", 0, (32.99, 71.26, 77.91, 41.66, 50, 64.62, 71.62, 35.71, 34.19, 19.4, 43.56, 45.39, 32.92), 44.52, 100),
        Printed("LLM-Pruner", 27, (34.33, 56.46, 71.22, 25.25, 36.54, 42.51, 55.2, 22.56, 22.35, 11.51, 25.64, 23.33, 25.25), 32.84, 73.76),
        Printed("SliceGPT", 26.4, (31.7, 50.27, 66.21, 20.79, 36.54, 41.36, 38.32, 21.07, 21.66, 4.89, 39.78, 28.92, 25.37), 32.84, 73.76),
        Printed("LaCo", 27.1, (34.43, 55.69, 69.8, 36.14, 40.38, 45.7, 64.07, 22.61, 23.61, 15.64, 39.67, 26.45, 25.24), 38.41, 86.28),
        Printed("ShortGPT", 27.1, (32.95, 53.02, 66.43, 24.68, 52.46, 47.99, 74.71, 32.25, 35.17, 0.67, 39.62, 43.96, 32.25), 42.6, 95.69),
    ),
    "llama-2-13b": (
        Printed("Dense", 0, (32.99, 74.78, 79.71, 47.35, 50, 66.91, 82.39, 57.95, 60.38, 23.45, 47.51, 55, 38.4), 51.91, 100),
        Printed(
            "LLM-Pruner", 24.4, (33.03, 67.76, 76.66, 35.64, 40.38, 50.86, 56.42, 22.47, 22.08, 19.17, 32.33, 25.21, 24.71), 38.97, 75.07
        ),
        Printed("SliceGPT", 23.6, (29.82, 55.71, 69.04, 19.31, 36.54, 47.26, 37.86, 23.41, 24.03, 5.27, 41.92, 37.14, 25.79), 34.84, 67.11),
        Printed("LaCo", 24.6, (32.86, 64.39, 74.27, 40.1, 52.88, 52.66, 63.98, 54.49, 56.55, 14.45, 44.93, 45.93, 32.62), 48.3, 93.05),
        Printed("ShortGPT", 24.6, (32.99, 56.14, 68.93, 22.93, 54.61, 52.42, 71.8, 53.92, 57.45, 2.14, 39.01, 52.42, 35.36), 48.1, 92.95),
    ),
    "baichuan-2-7b": (
        Printed("Dense", 0, (33.37, 67.56, 76.17, 85.56, 50, 63.14, 74.1, 26.96, 24.09, 20.82, 64.55, 53.87, 56.95), 53.63, 100),
        Printed(
            "LLM-Pruner", 24.2, (32.28, 53.66, 71.82, 69.8, 53.85, 47.83, 61.19, 21.96, 22.28, 15.98, 41.64, 24.93, 25.69), 41.76, 77.87
        ),
        Printed("SliceGPT", 22.2, (32.07, 25.29, 50.33, 14.85, 36.54, 19.57, 39.3, 23.53, 22.49, 0, 26.58, 25.18, 25.25), 26.23, 56.38),
        Printed("LaCo", 24.2, (33, 52.28, 68.5, 76.24, 42.31, 47.26, 56.15, 28.99, 27.72, 12.03, 50.85, 31.53, 31.24), 42.93, 80.05),
        Printed("ShortGPT", 24.2, (33.3, 56.96, 67.68, 65.63, 50, 46.7, 67.83, 53.26, 46.76, 0.04, 56.33, 45.77, 47.87), 49.08, 91.52),
    ),
    "baichuan-2-13b": (
        Printed("Dense", 0, (33.21, 71.1, 78.07, 86.51, 50, 65.6, 77.89, 67.27, 68.94, 25.02, 65.64, 59.5, 61.3), 62.31, 100),
        Printed("LLM-Pruner", 24.3, (33.8, 53.57, 71.82, 72.77, 37.5, 38.82, 56.54, 21.17, 21.61, 13.67, 39.89, 23.19, 25.18), 39.2, 62.91),
        Printed("SliceGPT", 22.8, (32.07, 25.85, 51.03, 10.4, 36.54, 18.02, 37.83, 21.56, 21.52, 0, 24.99, 22.95, 25.26), 25.03, 40.17),
        Printed("LaCo", 24.7, (33.03, 60.71, 68.88, 76.73, 44.23, 55.45, 62.35, 56.92, 57.8, 12.32, 61.1, 51.35, 53.65), 53.43, 85.75),
        Printed("ShortGPT", 24.7, (32.81, 60.55, 71.6, 80.17, 47.13, 54.3, 62.54, 55.77, 56.41, 15.14, 60.16, 52.11, 58.86), 54.43, 87.33),
    ),
}


def printed(name: str) -> Sequence[Printed]:
    """The rows of a model of this name (Llama-2-7b-hf, Baichuan2-7B-Base, ...), the dense model first; none for all others."""
    return TABLE.get(named_in_paper(name) or "", ())
