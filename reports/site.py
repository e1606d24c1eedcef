"""The site of the documentation, by zensical: the repository's Markdown as it lies, a tutorial that is run, and the reference.

`python -m reports.site` makes it in reports/out/docs/site; `make docs` also installs what it needs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pypandoc

import strata
from reports.execute import OwnKernel, execute, one_kernel

ROOT = Path(__file__).parents[1]
OUT = ROOT / "reports" / "out" / "docs"
COLLECTED = ("*.md", "CITATION.cff", "LICENSE", "docs/*.md", "reports/*.md", "reports/gallery/*", "adapters/zoo/*.md")
OPTIONAL = ("docs/gpu.md", "docs/architectures.md")  # pages of zensical.toml that `make gpu` and `python -m reports.architectures` write


class Chapter(NamedTuple):
    """A page of the tutorial: a notebook on a model of the zoo, and how much it reads, so that all of them take a minute."""

    notebook: str
    page: str
    documents: int
    window: int

    @property
    def parameters(self) -> dict[str, object]:
        return {"model": "zoo-llama-0", "documents": self.documents, "window": self.window}


TUTORIAL = (
    Chapter("redundancy", "tutorial.md", 12, 64),
    Chapter("depth", "tutorial-depth.md", 12, 64),
    Chapter("width", "tutorial-width.md", 12, 64),
    Chapter("pruning", "tutorial-pruning.md", 12, 64),
)
INTERFACES = {  # opening of a section -> names that are documented beside those of `import strata`
    "## Results\n\nWhat the [verbs](reference.md) give. No user makes one.": (
        "analysis.runs.read_run.RunResult",
        "analysis.stats.intervals.Interval",
        "analysis.checkpoints.write.Pruned",
        "analysis.methods.rewrite.InMemory",
        "analysis.comparison.results.Comparison",
        "analysis.comparison.difference.Difference",
    ),
    "## Metrics, orders and methods\n\nWhat functions of your own are given, and what is registered ([From Python](python.md)).": (
        "analysis.metrics.metrics.Step",
        "analysis.metrics.metrics.Metric",
        "analysis.removal.orders.Calibration",
        "analysis.removal.orders.Order",
        "analysis.data.batches.Batch",
        "analysis.methods.method.Method",
        "analysis.methods.method.Size",
    ),
    "## Models\n\nWhat `load` gives, and what a [family of your own](adapter.md) must give.": (
        "adapters.base.BlockModel",
        "adapters.block.Block",
        "adapters.block.Past",
        "adapters.block.Context",
        "adapters.block.MixerOutput",
        "adapters.block.Parts",
        "adapters.action.Action",
        "adapters.specs.ModelSpec",
        "adapters.specs.BlockSpec",
        "adapters.registry.Family",
        "adapters.contract.parametrize_with_checks",
    ),
}
MEMBERS = """    options:
      heading_level: 3
      show_if_no_docstring: true
      filters: ['!^_']"""
FORMULA = re.compile(r"\$[^$\n]+\$")
UNESCAPED = re.compile(r"\\([^\\`*_{}\[\]>#+\-.!|\w\s])")  # pandoc's backslashes that Python's Markdown shows, or takes for formulas
OPENING = """A notebook asks one question of one model. This is `notebooks/{notebook}.ipynb` as it ran on a model of the
[zoo](../adapters/zoo/README.md) when this page was made; `make lab` opens it, and so does

```sh
papermill notebooks/{notebook}.ipynb out.ipynb {options}
```

Another model, text or number of documents is another parameter. The cells below run one after the other in Jupyter and in `ipython`, where
Strata is installed. [How to read the result](reading.md) has the words.
"""


def make(out: Path = OUT) -> Path:
    """Makes everything anew in `out`/site, and gives its first page. Raises CalledProcessError where a link leads nowhere."""
    pages = out / "pages"
    shutil.rmtree(pages, ignore_errors=True)
    for path in (path for pattern in COLLECTED for path in sorted(ROOT.glob(pattern))):
        target = pages / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (pages / "README.md").rename(pages / "index.md")
    (pages / "docs" / "reference.md").write_text(reference(), encoding="utf-8")
    (pages / "docs" / "interfaces.md").write_text(interfaces(), encoding="utf-8")
    with one_kernel() as kernel:
        for chapter in TUTORIAL:
            (pages / "docs" / chapter.page).write_text(tutorial(chapter, pages / "docs", out / "runs", kernel), encoding="utf-8")
    (out / "zensical.toml").write_text(settings(pages), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean"], cwd=out, check=True)
    return out / "site" / "index.html"


def settings(pages: Path) -> str:
    """Of zensical: those of the repository, without the optional pages that are not there."""
    text = (ROOT / "zensical.toml").read_text(encoding="utf-8").replace('paths = ["."]', f"paths = [{json.dumps(str(ROOT))}]")
    missing = [f'"{name}"' for name in OPTIONAL if not (pages / name).exists()]
    return "".join(line for line in text.splitlines(keepends=True) if not any(name in line for name in missing))


def reference() -> str:
    """What `import strata` offers, by its docstrings."""
    names = [f"::: {strata.MODULES[name]}.{name}" for name in strata.__all__]
    opening = "What `import strata` offers; [From Python](python.md) shows it at work, [Interfaces](interfaces.md) has what comes of it."
    return "\n\n".join(["# Reference", opening, *names]) + "\n"


def interfaces() -> str:
    """What the verbs of `import strata` give, and what metrics, orders, methods and adapters are given or must be, by docstrings."""
    parts = ["# Interfaces"]
    for title, names in INTERFACES.items():
        parts += [title, *(f"::: {name}\n{MEMBERS}" for name in names)]
    return "\n\n".join(parts) + "\n"


def tutorial(chapter: Chapter, docs: Path, runs: Path, kernel: OwnKernel | None = None) -> str:
    """The notebook with its code and what it shows, as Markdown; pictures go to a folder of `docs`."""
    notebook = ROOT / "notebooks" / f"{chapter.notebook}.ipynb"
    (executed,) = execute([notebook], runs, chapter.parameters | {"out": str(runs)}, kernel=kernel)
    files = docs / "tutorial" / chapter.notebook
    files.mkdir(parents=True, exist_ok=True)
    options = " ".join(f"-p {name} {value}" for name, value in chapter.parameters.items())
    title, *cells = nbformat.read(executed, as_version=4).cells
    shown = [title.source, OPENING.format(notebook=chapter.notebook, options=options).strip()]
    for cell in cells:
        if cell.cell_type == "markdown":
            shown.append(FORMULA.sub(_formula, cell.source))
            continue
        source = cell.source
        if "injected-parameters" in cell.metadata.get("tags", ()):  # the place of the runs is that of the machine
            source = "\n".join(line for line in source.splitlines() if not line.startswith("out = "))
        shown.append(f"```python\n{source}\n```")
        shown += [_shown(output, files, len(shown) + n) for n, output in enumerate(cell.outputs)]
    return "\n\n".join(filter(None, shown)) + "\n"


def _formula(found: re.Match[str]) -> str:
    """As MathML, which browsers show by themselves."""
    html = pypandoc.convert_text(found[0], "html", "markdown", extra_args=["--mathml"])
    return re.sub(r"</?p>", "", html).strip()


def _shown(output: Any, files: Path, number: int) -> str:
    data, about = output.get("data", {}), output.get("metadata", {}).get("strata", {})
    if about.get("hidden"):
        return ""
    text, caption = (UNESCAPED.sub(r"\1", said) for said in (data.get("text/markdown", ""), about.get("caption", "")))
    if picture := data.get("image/svg+xml"):
        (files / f"{number}.svg").write_text(picture, encoding="utf-8")
        seen = re.sub(r"([\\\[\]])", r"\\\1", " ".join(about.get("alt", "Figure").split()))
        return f"![{seen}](tutorial/{files.name}/{number}.svg)\n\n*{caption}*"
    return f"{text}\n\n*{caption}*" if text and caption else text


if __name__ == "__main__":
    print(make())
