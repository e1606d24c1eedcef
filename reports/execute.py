"""Runs parameterised notebooks, one after the other, by papermill.

The kernel is always the interpreter that runs this code: its specification is made in memory (`OwnKernel`), so a fresh
virtual environment needs no registered kernel, and one that the user registered under the same name is never taken.
Parameters are checked before anything runs; papermill itself only warns.
"""

from __future__ import annotations

import ast
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import papermill
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from adapters.errors import StrataError, unknown


class NotebookError(RuntimeError):
    """A notebook failed by a mistake in it, not by bad input: names the file that keeps the traceback."""


class OwnKernel(AsyncKernelManager):
    """Starts kernels with this interpreter, whatever kernels are registered on the machine."""

    stopped = False  # by nbclient, which does so on Ctrl-C and then finds a dead kernel

    async def _async_shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:
        OwnKernel.stopped = True
        await super()._async_shutdown_kernel(now, restart)

    shutdown_kernel = _async_shutdown_kernel

    @property
    def kernel_spec(self) -> KernelSpec:
        quiet = ["--log-level=CRITICAL"]  # the kernel's own log would run across a progress bar; errors of cells come as outputs
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict(extra_arguments=quiet))


@contextmanager
def one_kernel() -> Iterator[OwnKernel]:
    """A kernel for many notebooks, which import everything once: it starts with the first and forgets each before the next."""
    kernel = OwnKernel()
    try:
        yield kernel
    finally:
        if kernel.has_kernel:
            run_sync(kernel._async_shutdown_kernel)(now=True)


async def _forget(kernel: OwnKernel) -> None:
    """Clears the names of the last notebook, and with them its model."""
    client = kernel.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
        await client.execute_interactive("%reset -f\nimport gc\ngc.collect()", store_history=False, output_hook=lambda message: None)
    finally:
        client.stop_channels()


class Progress(NamedTuple):
    """Where a run stands: in which cell of how many, and the last line that the cell wrote to stderr."""

    notebook: Path
    cell: int
    n_cells: int
    note: str


def parameters_of(notebook: Path) -> dict[str, object]:
    """Names and defaults in the cell tagged `parameters`, which holds literal assignments and nothing else.

    Raises StrataError when the file is not a notebook or the cell holds something else.
    """
    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except (OSError, ValueError, AttributeError) as error:
        raise StrataError(f"{notebook} cannot be read as a notebook: {error}") from None
    source = next((cell.source for cell in cells if "parameters" in cell.metadata.get("tags", ())), "")
    found: dict[str, object] = {}
    try:
        for line in ast.parse(source).body:
            if isinstance(line, (ast.Assign, ast.AnnAssign)) and line.value is not None:
                targets = line.targets if isinstance(line, ast.Assign) else [line.target]
                found |= {target.id: ast.literal_eval(line.value) for target in targets if isinstance(target, ast.Name)}
    except (SyntaxError, ValueError) as error:
        raise StrataError(f"{notebook}: the cell tagged `parameters` must hold literals like `tokens = 4096`: {error}") from None
    return found


def check_parameters(notebooks: Sequence[Path], parameters: Mapping[str, object]) -> list[dict[str, object]]:
    """What each notebook gets of the parameters.

    Raises StrataError for a name that no notebook has, or a value of another type than the default's.
    """
    defaults = [parameters_of(path) for path in notebooks]
    valid = {name for known in defaults for name in known}
    for name in parameters:
        if name not in valid:
            raise unknown("parameter", name, valid)
    for path, known in zip(notebooks, defaults, strict=True):
        for name in known.keys() & parameters.keys():
            _check_type(f"parameter {name} of {path.name}", parameters[name], known[name])
    return [{name: value for name, value in parameters.items() if name in known} for known in defaults]


def _check_type(noun: str, value: object, default: object) -> None:
    """A default of None takes anything, a float takes whole numbers, everything else its own type (no bool for a number)."""
    fits = type(value) is type(default) or default is None or (type(default) is float and type(value) is int)
    if not fits:
        raise StrataError(f"{noun} must be of type {type(default).__name__}, as its default {default!r}; found {value!r}")


def execute(
    notebooks: Sequence[Path],
    out: Path,
    parameters: Mapping[str, object] | None = None,
    *,
    progress: Callable[[Progress], object] = lambda _: None,
    kernel: OwnKernel | None = None,
) -> list[Path]:
    """Runs the notebooks and returns the executed ones, `out`/NAME.ipynb; `progress` is called as they run.

    Each has a kernel of its own unless one is given (`one_kernel`).

    Each notebook gets the parameters that it has. Raises StrataError for a bad parameter, before anything runs, and
    when a notebook raised one; NotebookError when a notebook failed otherwise.
    """
    given = check_parameters(notebooks, parameters or {})
    out.mkdir(parents=True, exist_ok=True)
    targets = [out / path.name for path in notebooks]
    for path, target, values in zip(notebooks, targets, given, strict=True):
        _run(path, target, values, _Reporter(path, progress), kernel)
    return targets


class _Reporter:
    """Turns what papermill tells while a notebook runs into calls of `progress`; stands in for the file that stderr goes to."""

    def __init__(self, notebook: Path, progress: Callable[[Progress], object]) -> None:
        self.state, self.progress = Progress(notebook, 0, len(nbformat.read(notebook, as_version=4).cells), ""), progress

    def cell(self, cell_index: int, **_: Any) -> None:
        self._tell(cell=cell_index, note="")

    def write(self, text: str) -> None:
        lines = [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
        if lines:
            self._tell(note=lines[-1])

    def flush(self) -> None:
        """A file has it."""

    def _tell(self, **changes: Any) -> None:
        self.state = self.state._replace(**changes)
        self.progress(self.state)


def _run(notebook: Path, target: Path, parameters: dict[str, object], reporter: _Reporter, kernel: OwnKernel | None) -> None:
    source, made = (str(path).replace("{", "{{").replace("}", "}}") for path in (notebook, target))  # papermill formats paths
    OwnKernel.stopped, on_interrupt = False, signal.getsignal(signal.SIGINT)
    given: dict[str, Any] = {"kernel_manager_class": OwnKernel} if kernel is None else {"km": kernel}
    try:
        if kernel is not None and kernel.has_kernel:
            run_sync(_forget)(kernel)
        papermill.execute_notebook(
            source, made, parameters, kernel_name="python3", language="python", progress_bar=False,
            coalesce_streams=True, on_cell_start=reporter.cell, stderr_file=reporter, **given,
        )  # fmt: skip
    except PapermillExecutionError as error:
        if error.ename == StrataError.__name__:
            raise StrataError(error.evalue) from None
        raise NotebookError(f"{notebook.name} failed: {error.ename}: {error.evalue}; the traceback is in {target}") from None
    except DeadKernelError:
        if OwnKernel.stopped:
            raise KeyboardInterrupt from None
        raise NotebookError(f"{notebook.name}: its kernel died, most often for want of memory; what it had shown is in {target}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, on_interrupt)  # nbclient puts its own there
