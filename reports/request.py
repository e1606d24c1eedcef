"""What a report is asked for: the models, the text and the folder, checked and put into words."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from adapters.base import BlockModel
from adapters.catalogue import ZOO, zoo
from adapters.errors import StrataError, unknown
from adapters.registry import load, locate
from analysis.data.documents import documents
from analysis.display.format import escape, listed
from analysis.parameters import Tasks
from analysis.runs.budgets import Budget, budget
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI
from analysis.zoo.groups import few, groups, zoo_facts
from reports.execute import parameters_of
from reports.planner import Asked, Size
from reports.sections import SECTIONS, Choice

if TYPE_CHECKING:
    from analysis.tasks import TaskSet

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
DEFAULTS = {"corpus": "texts", "device": "auto", "dtype": "auto", "weights": "auto", "seed": 0}  # of the options
HOW = ("weights",)  # options on which no number depends

Options = Mapping[str, str | int]


@dataclass(frozen=True)
class ReportRequest:
    """The sections of `models`, and `compared` side by side at the end; without `models` the comparison alone."""

    models: Sequence[str]
    compared: Sequence[str]
    size: str  # a name of BUDGETS
    out: Path
    only: Sequence[str]  # sections as `Asked` reads them, whatever they take; none: those that the budget holds
    options: Options  # parameters of the notebooks

    @classmethod
    def of(
        cls, models: Sequence[str], compared: Sequence[str], size: str, out: Path, only: Sequence[str], options: Options
    ) -> ReportRequest:
        """With all of the zoo for `zoo`, and several models compared when nothing else is said: at a short budget the first seeds of
        the zoo's architectures (`groups.few`). Raises StrataError as `check`."""
        models = everything(models)
        named = compared or (models if len(models) > 1 and not only else ())
        compared = everything(named)
        if "zoo" in named and budget(size).seconds is not None:
            compared = few(compared, zoo_facts())
        request = cls(models, compared, size, out, only, options)
        request.check()
        return request

    def check(self) -> None:
        """Raises StrataError for what can be known to be wrong before a model is loaded."""
        budget(self.size)
        next(documents(str(self.options["corpus"])))
        if len(self.compared) == 1:
            raise StrataError(f"{self.compared[0]} alone cannot be compared: name two models or more, or use `strata report`")
        for model in dict.fromkeys((*self.models, *self.compared)):
            locate(model, None)
        for models in (self.models, self.compared):
            if len(set(models)) < len(models):
                raise StrataError(f"a model is named twice: {', '.join(models)}")
        if self.compared:
            groups(self.compared, zoo_facts())
        for one in self.asked:
            if one.model and one.model not in self.models:
                raise unknown("model of the report", one.model, self.models)
        if "tasks" in self.options:
            self._check_tasks()

    def _check_tasks(self) -> None:
        """Raises StrataError as `task_sets`, and where one is not shown."""
        questions = [one.question for one in self.asked]
        sections = [s.notebook for s in SECTIONS if self.models and (not self.only or s.question in questions)]
        notebooks = [NOTEBOOKS / name for name in (*sections, *["comparison.ipynb"] * bool(self.compared))]
        if not any("tasks" in parameters_of(notebook) for notebook in notebooks):
            raise StrataError(f"--tasks: {', '.join(self.only)} shows no benchmarks; name another section, such as depth, beside it")
        if left := self.task_sets.keys() - {name for notebook in notebooks for name in self.shown(notebook)}:
            raise StrataError(f"--tasks: the answers of {', '.join(sorted(left))} are written, which only the section generation shows")

    @cached_property
    def task_sets(self) -> dict[str, TaskSet]:
        """A question of each benchmark, by name. Raises StrataError for an unknown one, and for files that cannot be read."""
        if "tasks" not in self.options:
            return {}
        from analysis.tasks import load_tasks  # lm_eval is not needed where no task is named

        data = Path(str(self.options["data"])).expanduser() if "data" in self.options else None
        names, run_code = Tasks(tasks=str(self.options["tasks"])).names, bool(self.options.get("run_code"))
        return {name: load_tasks(name, limit=1, data=data, run_code=run_code) for name in names}

    def shown(self, notebook: Path) -> list[str]:
        """The benchmarks that it shows: those with written answers where it takes how long these may be."""
        valid = parameters_of(notebook) if self.task_sets else {}
        return [name for name, tasks in self.task_sets.items() if ("max_tokens" if tasks.written else "tasks") in valid]

    def missed(self, model: BlockModel) -> dict[str, str]:
        """The benchmarks that a model cannot do, and why."""
        from analysis.tasks.written import study_of

        found, most = {}, self.options.get("max_tokens")
        for name, tasks in self.task_sets.items():
            try:
                _ = study_of(model, [], tasks, most=None if most is None else int(most)).cut  # for this the question is read
            except StrataError as error:
                found[name] = str(error)
        return found

    def load(self, model: str) -> BlockModel:
        """One of the models."""
        how = {name: str(self.options.get(name, DEFAULTS[name])) for name in ("device", "dtype", "weights")}
        return load(model, **how)

    @property
    def asked(self) -> list[Asked]:
        """The sections that were named. Raises StrataError on one that is none."""
        return [Asked.of(words) for words in self.only]

    @property
    def given(self) -> Size | None:
        """How much text everything reads, where that was said."""
        if "documents" not in self.options and "window" not in self.options:
            return None
        window = int(self.options.get("window", self.budget.window))
        return Size(int(self.options.get("documents", max(MIN_DOCUMENTS_FOR_CI, self.budget.documents))), window)

    @property
    def budget(self) -> Budget:
        return budget(self.size)

    @property
    def parameters(self) -> dict[str, str | int]:
        """What every notebook is given beside its models and how much text it reads."""
        sizes = ("documents", "window")
        return {"budget": self.size, "out": str(self.out / "runs"), **{k: v for k, v in self.options.items() if k not in sizes}}

    def parameters_for(self, choice: Choice) -> dict[str, str | int]:
        """Those of `parameters` that the notebook of a section has, with the benchmarks that it shows and its models can do."""
        notebook = NOTEBOOKS / choice.notebook
        tasks = ",".join(name for name in self.shown(notebook) if name not in choice.missed)
        valid = parameters_of(notebook)
        return {name: value for name, value in (self.parameters | {"tasks": tasks}).items() if name in valid}

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two reports the same, as JSON; a report folder belongs to one."""
        what = {name: value for name, value in self.options.items() if name not in HOW}
        return {"models": list(self.models), "compare": list(self.compared), "only": list(self.only), "budget": self.size, **what}

    @property
    def title(self) -> str:
        return f"Redundancy of {names(self.models)}" if self.models else f"{names(self.compared)} compared"

    @property
    def words(self) -> list[str]:
        """Of the command line: the options that are not the defaults."""
        given = [(name.replace("_", "-"), value) for name, value in self.options.items() if value != DEFAULTS.get(name)]
        return [word for name, value in given for word in (f"--{name}", *([] if value is True else [str(value)]))]

    @property
    def command(self) -> str:
        """What makes the same again, as a shell reads it."""
        return self._command(self.only)

    def exactly(self, sections: Sequence[str]) -> str:
        """The same with every section and how much text it reads named, so that another machine's speed changes nothing."""
        if self.models:
            return self._command(sections)
        size = Asked.of(sections[0]).size
        given = "documents" in self.options or "window" in self.options
        return self.command if size is None or given else f"{self.command} --documents {size.documents} --window {size.window}"

    def one(self, choice: Choice) -> str:
        """What makes one section of one model, in a folder of its own."""
        only = f"{choice.question}={choice.size}" if choice.size else choice.question
        target = self.out.with_name(f"{self.out.name}-{Path(choice.model).name}")
        return shlex.join(["strata", "report", choice.model, "--only", only, *self.words, "--out", str(target)])

    def _command(self, only: Sequence[str]) -> str:
        also = ["--compare", ",".join(self.compared)] if self.compared and (only or list(self.compared) != list(self.models)) else []
        also += ["--only", ", ".join(only)] if only else []  # with spaces, at which a line of the report can end
        request = ["report", *self.models, *also] if self.models else ["compare", *self.compared, "--out", str(self.out)]
        return shlex.join(["strata", *request, "--budget", self.size, *self.words])

    @property
    def question(self) -> str:
        """What is asked of which models on what text, as Markdown."""
        models = f"What can be removed from {_names(self.models)}, in depth or in width, and at what cost?" if self.models else ""
        beside = f"{_names(self.compared)} are compared on the same bytes." if self.compared else ""
        text = {"texts": "English prose"}.get(str(self.options["corpus"]), escape(Path(str(self.options["corpus"])).name))
        return f"{models} {beside} All is measured on held-out documents of {text}.".strip()

    def facts(self, exactly: str) -> dict[str, str]:
        """How the report was made, which stands at its end."""
        size, cuda = self.budget, torch.cuda.is_available() and self.options["device"] != "cpu"
        limit = f", about {size.seconds / 60:.0f} minutes a sweep" if size.seconds else ""
        processor = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
        return {
            "Date": date.today().isoformat(),
            "Models": ", ".join(self.models or self.compared),
            **({"Compared": ", ".join(self.compared)} if self.models and self.compared else {}),
            "Budget": f"{self.size}: windows of {size.window} tokens from up to {size.documents} documents{limit}",
            "Machine": f"{platform.system()} {platform.machine()}, {processor}",
            "Command": self.command,
            **({"Exactly this": exactly} if exactly != self.command else {}),
            "Versions": f"strata {version('llm-strata')}, torch {torch.__version__}, transformers {version('transformers')}",
        }


def _names(models: Sequence[str]) -> str:
    """As `names`, as Markdown; many are counted."""
    return listed(escape(Path(model).name) for model in models) if len(models) <= 4 else f"{len(models)} models"


def everything(models: Sequence[str]) -> list[str]:
    """The models by name, with all of the zoo for `zoo`. Raises StrataError when it is empty."""
    if "zoo" in models and not zoo():
        raise StrataError(f"{ZOO} holds no models: train them with `make zoo`, or name others")
    return [name for model in models for name in (zoo() if model == "zoo" else [model])]


def names(models: Sequence[str]) -> str:
    """The models as a sentence lists them, without their folders."""
    return listed(Path(model).name for model in models)
