"""Notebooks run in this interpreter, with checked parameters; what fails says so in one line."""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import nbformat
import pytest

from adapters.errors import StrataError
from reports.execute import NotebookError, Progress, check_parameters, execute, one_kernel, parameters_of

ROOT = Path(__file__).parents[2]
PARAMETERS = 'tokens = 4096  # a comment\nrate = 0.5\nname = "x # y"\nseed = None\nquick: bool = True'


@pytest.fixture(autouse=True)
def foreign_kernel(tmp_path, monkeypatch):
    """A kernel registered as `python3` that is not ours."""
    folder = tmp_path / "jupyter" / "kernels" / "python3"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(
        json.dumps({"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def notebook(path: Path, *sources: str) -> Path:
    tagged = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[tagged, *map(nbformat.v4.new_code_cell, sources)]), path)
    return path


def test_runs_in_this_interpreter_with_parameters_and_tells_progress(tmp_path):
    out, seen = tmp_path / "{braces}", []
    source = "import sys\nprint('half\\rdone', file=sys.stderr, flush=True)\nprint(sys.executable, tokens, seed)"
    (made,) = execute([notebook(tmp_path / "{a}.ipynb", source)], out, {"tokens": 8, "seed": 3}, progress=seen.append)
    assert made == out / "{a}.ipynb"
    outputs = nbformat.read(made, as_version=4).cells[-1].outputs
    assert [o.text for o in outputs if o.name == "stdout"] == [f"{sys.executable} 8 3\n"]
    assert [p.note for p in seen if p.note] == ["done"]
    assert [p.cell for p in seen if not p.note] == [0, 1, 2]  # papermill adds the cell with the given parameters


def test_project_error_of_a_cell_is_passed_on(tmp_path):
    path = notebook(tmp_path / "a.ipynb", "from adapters.errors import StrataError\nraise StrataError('corpus too short')")
    with pytest.raises(StrataError, match=r"^corpus too short$"):
        execute([path], tmp_path / "out")


def test_one_kernel_forgets_each_notebook(tmp_path):
    first = notebook(tmp_path / "a.ipynb", "import os\nleft = 3\nprint(os.getpid())")
    second = notebook(tmp_path / "b.ipynb", "import os\nprint(os.getpid())\nprint('left' in globals(), tokens)")
    with one_kernel() as kernel:
        made = [execute([path], tmp_path / "out", {"tokens": n}, kernel=kernel)[0] for n, path in enumerate((first, second))]
        assert kernel.has_kernel
    assert not kernel.has_kernel
    (pid, _), (same, said, _) = (nbformat.read(path, as_version=4).cells[-1].outputs[0].text.split("\n") for path in made)
    assert pid == same
    assert said == "False 1"


def test_an_error_of_the_user_is_one_line_in_a_notebook(tmp_path):
    path = notebook(tmp_path / "a.ipynb", "from adapters.errors import StrataError\nraise StrataError('corpus too short')")
    with pytest.raises(StrataError):
        execute([path], tmp_path / "out")
    (error,) = nbformat.read(tmp_path / "out" / "a.ipynb", as_version=4).cells[-1].outputs
    assert error.traceback == ["StrataError: corpus too short"]


@pytest.mark.parametrize(
    ("source", "message"), [("1 / 0", "ZeroDivisionError: division by zero"), ("import os; os._exit(1)", "its kernel died")]
)
def test_other_failures_name_the_file_that_keeps_the_traceback(tmp_path, source, message):
    with pytest.raises(NotebookError, match=message) as caught:
        execute([notebook(tmp_path / "a.ipynb", source)], tmp_path / "out")
    kept = tmp_path / "out" / "a.ipynb"
    assert str(kept) in str(caught.value)
    assert kept.is_file()


def test_parameters_are_read_as_literals(tmp_path):
    assert parameters_of(notebook(tmp_path / "a.ipynb")) == {"tokens": 4096, "rate": 0.5, "name": "x # y", "seed": None, "quick": True}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"token": 8}, r"unknown parameter 'token': did you mean tokens\?.*valid: name, quick, rate, seed, tokens"),
        ({"tokens": "8"}, r"parameter tokens of a\.ipynb must be of type int, as its default 4096; found '8'"),
        ({"tokens": True}, "must be of type int"),
        ({"quick": 1}, "must be of type bool"),
    ],
)
def test_bad_parameters_stop_before_anything_runs(tmp_path, given, message):
    with pytest.raises(StrataError, match=message):
        execute([notebook(tmp_path / "a.ipynb", "1 / 0")], tmp_path / "out", given)
    assert not (tmp_path / "out").exists()


def test_each_notebook_gets_the_parameters_it_has(tmp_path):
    plain = tmp_path / "plain.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), plain)
    assert check_parameters([notebook(tmp_path / "a.ipynb"), plain], {"rate": 1}) == [{"rate": 1}, {}]


def test_file_that_is_no_notebook_is_one_line(tmp_path):
    (tmp_path / "a.ipynb").write_text("[]")
    for path in (tmp_path / "a.ipynb", tmp_path / "missing.ipynb"):
        with pytest.raises(StrataError, match="cannot be read as a notebook"):
            execute([path], tmp_path / "out")


def test_ctrl_c_is_no_dead_kernel(tmp_path):
    """nbclient takes the signal, stops the kernel and finds it dead; what was set for the signal stands there again."""
    path, before = notebook(tmp_path / "a.ipynb", "import time\nprint('on', flush=True)\ntime.sleep(60)"), signal.getsignal(signal.SIGINT)

    def press(at: Progress) -> None:
        if at.cell == 1 and not at.note:
            threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        execute([path], tmp_path / "out", progress=press)
    assert signal.getsignal(signal.SIGINT) is before
