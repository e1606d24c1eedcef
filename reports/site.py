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
from typing import Any

import nbformat

import strata
from reports.execute import execute

ROOT = Path(__file__).parents[1]
OUT = ROOT / "reports" / "out" / "docs"
COLLECTED = ("*.md", "CITATION.cff", "LICENSE", "docs/*.md", "reports/*.md", "reports/gallery/*", "adapters/zoo/*.md")
TUTORIAL = {"model": "zoo-llama-0", "documents": 12, "window": 64}  # what it reads takes a minute
UNESCAPED = re.compile(r"\\([^\\`*_{}\[\]()>#+\-.!|\w\s])")  # pandoc's backslashes that Python's Markdown shows
OPENING = """# Tutorial

A notebook asks one question of one model. This is `notebooks/redundancy.ipynb` as it ran on a model of the
[zoo](../adapters/zoo/README.md) when this page was made; `make lab` opens it, and so does

```sh
papermill notebooks/redundancy.ipynb out.ipynb {options}
```

Another model, text or number of documents is another parameter. [How to read the result](reading.md) has the words.
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
    (pages / "docs" / "tutorial.md").write_text(tutorial(pages / "docs", out / "runs"), encoding="utf-8")
    settings = (ROOT / "zensical.toml").read_text(encoding="utf-8").replace('paths = ["."]', f"paths = [{json.dumps(str(ROOT))}]")
    (out / "zensical.toml").write_text(settings, encoding="utf-8")
    subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean"], cwd=out, check=True)
    return out / "site" / "index.html"


def reference() -> str:
    """What `import strata` offers, by its docstrings."""
    names = [f"::: {strata.MODULES[name]}.{name}" for name in strata.__all__]
    return "\n\n".join(["# Reference", "What `import strata` offers; [From Python](python.md) shows it at work.", *names]) + "\n"


def tutorial(docs: Path, runs: Path) -> str:
    """The notebook with its code and what it shows, as Markdown; pictures go to `docs`/tutorial."""
    (executed,) = execute([ROOT / "notebooks" / "redundancy.ipynb"], runs, TUTORIAL | {"out": str(runs)})
    files = docs / "tutorial"
    files.mkdir(parents=True, exist_ok=True)
    options = " ".join(f"-p {name} {value}" for name, value in TUTORIAL.items())
    shown = [OPENING.format(options=options)]
    for cell in nbformat.read(executed, as_version=4).cells:
        if cell.cell_type == "markdown":
            shown.append(cell.source.replace("# ", "## ", 1) if cell.source.startswith("# ") else cell.source)
        elif not {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", ())):
            shown.append(f"```python\n{cell.source}\n```")
            shown += [_shown(output, files, len(shown) + n) for n, output in enumerate(cell.outputs)]
    return "\n\n".join(filter(None, shown)) + "\n"


def _shown(output: Any, files: Path, number: int) -> str:
    data, about = output.get("data", {}), output.get("metadata", {}).get("strata", {})
    if about.get("hidden"):
        return ""
    if picture := data.get("image/svg+xml"):
        (files / f"{number}.svg").write_text(picture, encoding="utf-8")
        return f"![Figure](tutorial/{number}.svg)\n\n*{about['caption']}*"
    text = UNESCAPED.sub(r"\1", data.get("text/markdown", ""))
    return f"{text}\n\n*{about['caption']}*" if text and about.get("caption") else text


if __name__ == "__main__":
    print(make())
