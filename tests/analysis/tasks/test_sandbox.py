"""Attacks on the sandbox: each is tried, and what it would have done is looked for outside."""

from __future__ import annotations

import gzip
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import pytest

from adapters import StrataError
from analysis.tasks import sandbox as module
from analysis.tasks.sandbox import Sandbox, Verdict
from tests.shared_data import shared

NOBODY = 65534


class OfNobody(Sandbox):
    """One that a child of these tests has, which is not root."""

    def run(self, program: str) -> Verdict:
        context = get_context("fork")
        verdicts = context.SimpleQueue()
        child = context.Process(target=self._as_nobody, args=(program, verdicts))
        child.start()
        child.join()
        return verdicts.get() if child.exitcode == 0 else Verdict(False, f"the child ended with code {child.exitcode}")

    def _as_nobody(self, program: str, verdicts: SimpleQueue) -> None:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        if not os.access(sys._base_executable, os.X_OK):  # type: ignore[attr-defined] # it is at root's home
            sys._base_executable, sys.base_prefix = "/usr/bin/python3", "/usr"  # type: ignore[attr-defined]
        verdicts.put(super().run(program))


@pytest.fixture(scope="module", params=["as these tests", "as nobody"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    try:
        found = Sandbox.find()
    except StrataError as error:
        pytest.skip(str(error))
    if request.param == "as these tests":
        return found
    if not found.is_root:
        pytest.skip("only root can become somebody else")
    found = OfNobody(found.bubblewrap, is_root=False)
    if not (tried := found.run("pass")).passed:
        pytest.skip(f"namespaces are not for everybody here: {tried.why}")
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 1)
    monkeypatch.setattr(module, "REAL_SECONDS", 4.0)


def test_what_passes_passes(sandbox: Sandbox) -> None:
    assert sandbox.run("import math\nassert math.sqrt(4) == 2\nprint('x' * 10)").passed
    assert sandbox.run(
        "import json, re, collections, heapq, itertools, hashlib, datetime, random, typing\nopen('/tmp/a', 'w').write('x')"
    ).passed


@pytest.mark.parametrize(
    "program",
    [
        "assert 1 == 2",
        "raise SystemExit(0)",
        "import os; os._exit(0)",
        "this is no Python",
        "import sys; sys.exit('0' * 32)",
        "import os\nfor fd in range(10):\n  try: os.write(fd, b'0' * 32)\n  except OSError: pass",
    ],
)
def test_what_does_not_get_to_its_end_fails(sandbox: Sandbox, program: str) -> None:
    assert not sandbox.run(program).passed


def processes() -> int:
    return sum(name.isdigit() for name in os.listdir("/proc"))


@pytest.mark.usefixtures("quick")
def test_a_fork_bomb_ends(sandbox: Sandbox) -> None:
    before = processes()
    assert not sandbox.run("import os\nn = 0\nwhile n < 1000:\n    os.fork(); n += 1").passed
    time.sleep(0.2)
    assert processes() < before + 50


@pytest.mark.usefixtures("quick")
def test_processes_are_counted(sandbox: Sandbox) -> None:
    """None of more than the limit is made, and what is left behind does not outlive its program."""
    count = (
        "import os, time\nn = 0\ntry:\n    for _ in range(100):\n        if os.fork() == 0: time.sleep(60); os._exit(0)\n        n += 1\n"
    )
    assert sandbox.run(count + f"except OSError: pass\nassert 0 < n < {module.PROCESSES + 1}, n").passed


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "program",
    ["while True: pass", "import time; time.sleep(100)", "import signal, time\nsignal.signal(24, signal.SIG_IGN)\nwhile True: pass"],
)
def test_an_endless_loop_ends(sandbox: Sandbox, program: str) -> None:
    start = time.monotonic()
    assert not sandbox.run(program).passed
    assert time.monotonic() - start < 30


def test_ten_gigabytes_are_not_to_be_had(sandbox: Sandbox) -> None:
    assert not sandbox.run("x = bytearray(10 << 30)").passed
    assert sandbox.run("try:\n    x = bytearray(10 << 30)\nexcept MemoryError: pass\nelse: assert False").passed


def test_several_processes_have_no_more_memory(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fills what it can get and holds it until all have told how much that is."""
    monkeypatch.setattr(module, "MEMORY", 512 << 20)
    fill = """
import os, time
told, tell = os.pipe()
def filled():
    held = []
    try:
        while True: held.append(b"x" * (1 << 20))
    except MemoryError: return held
n = 0
try:
    while True:
        if os.fork() == 0:
            held = filled()
            os.write(tell, bytes([min(255, len(held) >> 2)]))
            time.sleep(60)
        n += 1
except OSError: pass
held = filled()
found = [len(held)] + [4 * os.read(told, 1)[0] for _ in range(n)]
"""
    assert sandbox.run(f"{fill}\nassert n and 64 < sum(found) <= 512, found") == (True, "")


def test_memory_beside_that_of_processes_is_not_to_be_had(sandbox: Sandbox) -> None:
    """Files in memory, and what stays when the process that asked for it lets go of it."""
    program = """
import ctypes, errno, os
try: os.memfd_create("a")
except OSError as error: assert error.errno == errno.ENOSYS
else: assert False
system = ctypes.CDLL(None, use_errno=True)
for ask in (lambda: system.shmget(0, 1 << 20, 0o1600), lambda: system.semget(0, 100, 0o1600), lambda: system.msgget(0, 0o1600)):
    ctypes.set_errno(0)
    assert ask() == -1 and ctypes.get_errno() == errno.ENOSYS
"""
    if platform.machine() not in module.CALLS:
        pytest.skip("the numbers of calls are not known here")
    assert sandbox.run(program) == (True, "")


@pytest.mark.parametrize("target", ["os.getppid()", "1", "-1", "{these tests}"])
def test_nobody_outside_is_killed(sandbox: Sandbox, target: str) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    target = target.replace("{these tests}", str(os.getpid()))
    try:
        kill = "import os, signal\nfor pid in PIDS:\n    try: os.kill(pid, signal.SIGKILL)\n    except OSError: pass\n"
        assert sandbox.run(kill.replace("PIDS", f"({target}, {bystander.pid})")) == (True, "")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_nothing_outside_is_written_or_read(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    tmp_path.chmod(0o777)
    places = [
        str(tmp_path / "new"),
        "/etc/new",
        "/usr/new",
        "/new",
        os.path.expanduser("~/new"),
        "/dev/new",
        "/dev/shm/new",
        "/python/new",
        "/proc/sys/kernel/hostname",
    ]
    written = (
        "import os\nfor place in PLACES:\n    try: open(place, 'w').write('x')\n    except OSError: continue\n    assert False, place\n"
    )
    read = "for place in READ:\n    try: found = open(place).read()\n    except OSError: continue\n    assert not found, place\n"
    hidden = [str(secret), "/etc/passwd", "/etc/shadow", os.path.expanduser("~/.bashrc"), "/proc/1/environ", "/proc/1/mem"]
    program = f"PLACES = {places!r}\nREAD = {hidden!r}\n" + written + read + "assert os.listdir('/tmp') == []"
    assert sandbox.run(program) == (True, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret"]


def test_full_file_systems_are_its_own(sandbox: Sandbox) -> None:
    fill = """
try:
    for i in range(100):
        with open(f"/tmp/{i}", "wb") as file: file.write(bytes(8 << 20))
except OSError: pass
else: assert False
"""
    free = shutil.disk_usage("/tmp").free
    assert sandbox.run(fill).passed
    assert shutil.disk_usage("/tmp").free > free - (64 << 20)
    assert sandbox.run("import os\nassert os.listdir('/tmp') == []").passed


def test_there_is_no_network(sandbox: Sandbox) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = f"""
import socket
for host in ("127.0.0.1", "1.1.1.1"):
    try: socket.create_connection((host, {port}), 1)
    except OSError: continue
    assert False
"""
        assert sandbox.run(program).passed


def test_no_environment_no_descriptors_no_rights(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET_KEY", "secret")
    with (tmp_path / "open").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        assert sandbox.run("import os\nassert not set(os.environ) - {'PWD', 'LC_CTYPE'}, os.environ").passed
        assert sandbox.run("import os\nassert len(os.listdir('/proc/self/fd')) <= 5, os.listdir('/proc/self/fd')").passed
    back = "import os\nassert os.getuid() != 0\ntry: os.setuid(0)\nexcept OSError: pass\nelse: assert False"
    assert sandbox.run(back).passed


@pytest.mark.usefixtures("quick")
def test_a_daemon_does_not_outlive_its_program(sandbox: Sandbox) -> None:
    name = f"strata-daemon-{os.getpid()}"
    program = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("/proc/self/comm", "w").write({name[:15]!r})
        time.sleep(60)
    os._exit(0)
time.sleep(0.3)
"""
    assert sandbox.run(program).passed
    time.sleep(0.3)
    alive = [path for path in Path("/proc").glob("[0-9]*/comm") if path.exists() and path.read_text().strip() == name[:15]]
    assert alive == []


def test_output_is_not_kept(sandbox: Sandbox) -> None:
    program = "import os, sys\nfor fd in range(3, 10):\n  try:\n    while True: os.write(fd, b'x' * (1 << 20))\n  except OSError: pass"
    assert not sandbox.run(program).passed
    assert sandbox.run("print('x' * (30 << 20))").passed


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StrataError, match=r"bubblewrap \(bwrap\) is not here: install it with `apt-get install bubblewrap`"):
        Sandbox.find()
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    with pytest.raises(StrataError, match=r"does not work here .*No permissions to create new namespace.*: allow namespaces"):
        Sandbox.find()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(StrataError, match="on Linux alone"):
        Sandbox.find()


@pytest.mark.long
def test_human_evals_own_solutions_pass_and_empty_ones_do_not(sandbox: Sandbox) -> None:
    with gzip.open(shared("bench/humaneval/HumanEval.jsonl.gz"), "rt") as file:
        problems = [json.loads(line) for line in file]

    def passes(problem: dict, solution: str) -> bool:
        return sandbox.run(f"{problem['prompt']}{solution}\n{problem['test']}\ncheck({problem['entry_point']})").passed

    assert len(problems) == 164
    assert [problem["task_id"] for problem in problems if not passes(problem, problem["canonical_solution"])] == []
    assert [problem["task_id"] for problem in problems if passes(problem, "    return None")] == []
