"""What commands share: their options, a text from them, and a progress bar."""

from __future__ import annotations

import atexit
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapters.errors import StrataError, visible
from analysis.data.folders import KINDS, RULE
from analysis.data.streams import COMPRESSED
from reports.cli import names

if TYPE_CHECKING:
    from adapters.base import BlockModel
    from analysis.data.batches import Text

Model = Annotated[str, typer.Argument(help="A name of `strata models`, a folder, a .gguf file or a hub id.", show_default=False)]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder of the run; rerun the command to resume it. --json does without.", show_default=False),
]
Corpus = Annotated[
    str,
    typer.Option(
        help="`texts` (offline English prose) or a part of it, as texts:XSum; a UTF-8 text file; a file of rows "
        f"({', '.join([*KINDS][1:])}), compressed or not ({', '.join(COMPRESSED)}); a folder or a pattern in quotes; "
        f"or a data set of the Hugging Face hub, for example emozilla/pg19. Of rows: NAME[:CONFIGURATION[:SPLIT]][#COLUMN]. {RULE}. "
        f"Of a data set, on the hub or in a folder, the first {names.FIRST:,} documents are read. Repeated documents count once. "
        "Each window follows the model's own BOS token if it has one."
    ),
]
Tokens = Annotated[int, typer.Option(min=1, help="How much text, in tokens.")]
WindowSize = Annotated[int, typer.Option("--window", min=2, help="Tokens of each document.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed that chooses the documents and their windows.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda; sweep, importance and spans also take several, as cuda:0,cuda:1.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16, float64 or mixed (float32 with products in bfloat16).")]
Weights = Annotated[
    str,
    typer.Option(help="resident (in memory), streamed (read from disk block by block whenever they are used), or auto: whichever fits."),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print what is read and skipped, passes, tokens, memory and time, as far as they are known before; then stop."
    ),
]


ALIASES = {"layers": "blocks", "attention": "mixers", "attn": "mixers", "mlp": "ffns"}  # other words of the field for kinds of parts


def kinds_of(words: str) -> list[str]:
    """The kinds of parts that --kind names, with commas between them."""
    return [ALIASES.get(word.strip(), word.strip()) for word in words.split(",")]


def required(out: Path | None, optional: bool) -> Path:
    """The folder of a run; where none is named and that is `optional`, one that goes when the process ends. Raises StrataError if not."""
    if out is not None:
        return out.expanduser()
    if not optional:
        raise StrataError("--out is missing: name a folder for the run, for example --out runs/first")
    temporary = tempfile.TemporaryDirectory(prefix="strata-")
    atexit.register(temporary.cleanup)
    return Path(temporary.name)


def reader(model: str, device: str, dtype: str, revision: str | None = None, weights: str = "auto") -> Callable[[], BlockModel]:
    """Loads the model when it is called: first of all it says so, in a terminal, for imports and weights take their time."""

    def read() -> BlockModel:
        from adapters.registry import load

        return load(model, device=device, dtype=dtype, revision=revision, weights=weights)

    if sys.stderr.isatty():
        print(visible(f"loading {model} ..."), file=sys.stderr, flush=True)
    return read


def windows_of(corpus: str, tokens: int, window: int, seed: int, split: str = "held-out") -> Text:
    """As many windows as `tokens` hold. Raises StrataError when that is none."""
    if tokens < window:
        raise StrataError(f"--tokens {tokens} is less than one window of {window} tokens: give more, or a shorter --window")
    from analysis.data.batches import Text

    return Text(corpus=corpus, split=split, window=window, documents=tokens // window, seed=seed)


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Gives a function to call with how many more of `total` steps are done; the bar is shown in a terminal only."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(escape(visible(title)), total=total)
        yield lambda n: progress.advance(task, n)
