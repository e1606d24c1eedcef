"""What a notebook needs around its question: checked parameters, the model, and progress on stderr."""

from __future__ import annotations

import ast
import sys
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from adapters import BlockModel, StrataError, load
from adapters.errors import visible
from analysis.display.format import minutes
from analysis.runs.budgets import Budget, budget
from analysis.runs.files import say
from analysis.runs.settings import ProgressCallback, RunConfig

if TYPE_CHECKING:
    from analysis.tasks import TaskSet

LITERALS = (str, int, float, list, NoneType)  # what parameters are
IPYTHON = {"In", "Out", "exit", "quit", "open", "get_ipython"}  # names that a fresh kernel holds


class Common(BaseModel):
    """Parameters of every notebook; each stands with its default in the notebook's first code cell."""

    model_config = ConfigDict(extra="forbid")

    budget: str = "quick"
    corpus: str = "texts"
    documents: int | None = Field(default=None, ge=1)  # None: as many as the budget holds
    window: int | None = Field(default=None, ge=2)  # tokens; None: the budget's
    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    dtype: str = "auto"
    weights: str = "auto"  # how they are held
    out: str = "runs"  # folder of the runs, which a second execution goes on from

    @classmethod
    def of(cls, names: dict[str, Any]) -> Self:
        """From a notebook's globals(). Raises StrataError on an unknown name or a bad value, with the valid ones.

        Names made in a notebook at work are not taken for parameters when its cells are run again.
        """
        values = {k: v for k, v in names.items() if not k.startswith("_") and k not in IPYTHON and isinstance(v, LITERALS)}
        if isinstance(names.get("parameters"), cls):  # they have been read before
            values = {k: v for k, v in values.items() if k in cls.model_fields}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            wrong = error.errors()[0]
            name = ".".join(map(str, wrong["loc"]))
            raise StrataError(
                f"parameter {name}: {wrong['msg']} (found {wrong['input']!r}); valid: {', '.join(cls.model_fields)}"
            ) from None

    @property
    def sizes(self) -> Budget:
        sizes = budget(self.budget)
        return sizes if self.window is None else replace(sizes, window=self.window)

    @property
    def config(self) -> RunConfig:
        """What a study takes beside its model; its progress goes to stderr."""
        return RunConfig(self.sizes, Path(self.out).expanduser(), self.corpus, self.documents, self.seed, progress_on_stderr())


class Tasks(BaseModel):
    """Parameters of a notebook that shows benchmarks too, where there are any."""

    tasks: str = ""  # names with commas between them
    shots: int | None = Field(default=None, ge=0)  # None: as many as each task asks for
    limit: int | None = Field(default=40, ge=1)  # documents of each task
    data: str | None = None  # folder of their files, or `texts`; None: the hub

    @property
    def names(self) -> list[str]:
        return [name.strip() for name in self.tasks.split(",") if name.strip()]

    @property
    def allows_code(self) -> bool:
        """Whether programs that a model writes are run."""
        return False

    @property
    def shows_written(self) -> bool:
        """Whether tasks whose answers a model writes are shown."""
        return False

    @cached_property
    def task_sets(self) -> list[TaskSet]:
        """Those that the notebook shows; of others it is said that the notebook on generation does."""
        from analysis.tasks import load_tasks  # lm_eval's tables are not needed where no task is named

        data = Path(self.data).expanduser() if self.data else None
        found = [load_tasks(name, shots=self.shots, limit=self.limit, data=data, run_code=self.allows_code) for name in self.names]
        for task in found:
            if task.written and not self.shows_written:
                say(f"the answers of {task.name} are written: notebooks/generation.ipynb shows it")
        return [task for task in found if self.shows_written or not task.written]


class Parameters(Common):
    """Parameters of a notebook about one model."""

    model: str

    def load(self) -> BlockModel:
        return load(self.model, device=self.device, dtype=self.dtype, weights=self.weights)


class TaskParameters(Parameters, Tasks):
    """Parameters of a notebook about one model that shows benchmarks too."""


class GenerationParameters(TaskParameters):
    """Parameters of the notebook on generation."""

    run_code: bool = False  # run programs that the model writes, in a sandbox
    max_tokens: int | None = Field(default=None, ge=1)  # of each answer that is written; None: as many as each task asks for

    @property
    def allows_code(self) -> bool:
        return self.run_code

    @property
    def shows_written(self) -> bool:
        return True


class RankingParameters(Parameters):
    """Parameters of the notebook on importance."""

    other_corpora: str = ""

    @property
    def others(self) -> list[str]:
        return [name.strip() for name in self.other_corpora.split(",") if name.strip()]


class ComparisonParameters(Common, Tasks):
    """Parameters of the notebook on comparison. Models are a list, as such or as text, or names with commas between them."""

    models: list[str]
    trainings: str = ""  # folder that the zoo was trained in, for redundancy over training

    @field_validator("models", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return ast.literal_eval(value.strip())
            except (SyntaxError, ValueError):
                raise ValueError("a list of models looks like ['smollm2', 'zoo-rwkv5-0']") from None
        return [name.strip() for name in value.split(",") if name.strip()]

    @property
    def trained_in(self) -> Path:
        return Path(self.trainings).expanduser()

    def load(self, model: str) -> BlockModel:
        return load(model, device=self.device, dtype=self.dtype, weights=self.weights)


def progress_on_stderr() -> ProgressCallback:
    """Writes a line like `sweep 34 %, 2 min left`, again and again in its place; reports leave stderr out."""
    start, first, last, width = time.monotonic(), 0.0, 0.0, 0

    def tell(what: str, done: float) -> None:
        nonlocal start, last, first, width
        now = time.monotonic()
        if done < first or last == 0:
            start, first = now, done  # what was there already says nothing of the speed
        if now - last >= 2 or done >= 1:
            left = (now - start) / (done - first) * (1 - done) if done > first else 0
            ending = f", {minutes(left)} left" if 0 < done < 1 and left else ""
            line = f"{visible(what)} {done:.0%}{ending}"
            print(f"\r{line:<{width}}", end="", file=sys.stderr, flush=True)
            last, width = now, len(line)

    return tell
