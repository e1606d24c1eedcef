"""Runs programs that a model wrote: in namespaces of their own, without network, home, environment or descriptors, within limits.

It takes bubblewrap (https://github.com/containers/bubblewrap) on Linux; without it nothing is run. Started by root, a program runs
as a user of its own, whose processes can be counted; a user namespace would hide them from that count. Memory is limited by process,
processes by number, and calls for memory that no process is charged with fail: control groups, which limit the sum, are not to be had
everywhere, and verdicts should not depend on the machine. That a program has passed is told by a nonce which is printed behind its
tests, since an exit code of 0 can be had by leaving early. A program that looks for the nonce in the frames of its own process can
find it: the limits hold nevertheless.
"""

from __future__ import annotations

import errno
import os
import platform
import secrets
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

from adapters.errors import StrataError, visible

SECONDS = 3  # of computing; code_eval of the hub gives so many of real time
REAL_SECONDS = 15.0  # in which a machine that does other things as well gets there
PROCESSES = 4
MEMORY = 2 << 30  # bytes of all of them: each has its share
FILES = 16 << 20  # bytes of all that is written
OUTPUT = 4096  # bytes that are read of what is printed
FIRST_USER = 0x60000000  # of users that no other process has
CALLS = {  # by machine: what the kernel calls it, and its numbers of shmget, semget, msgget and memfd_create
    "x86_64": (0xC000003E, (29, 64, 68, 319)),
    "aarch64": (0xC00000B7, (194, 190, 186, 279)),
}
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # of 32 bits: the number of a call is at 0, its machine at 4
ALLOW, FAIL = 0x7FFF0000, 0x00050000 | errno.ENOSYS
INSTALL = "install it with `apt-get install bubblewrap`, or your system's own tool"

# Runs inside. It reads everything before it gives up its rights, and prints nothing but the nonce.
LAUNCHER = """
import os, resource, sys
def run(user, seconds, memory, files, processes):
    source = sys.stdin.buffer.read().decode()
    nonce, source = source.split("\\n", 1)
    for name, limit in (("CPU", seconds), ("AS", memory), ("FSIZE", files), ("NPROC", processes), ("NOFILE", 64), ("CORE", 0)):
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (limit, limit))
    if user:
        os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)
    out, null = os.dup(1), os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    exec(compile(source, "<program>", "exec"), {"__name__": "__main__"})
    os.write(out, nonce.encode())
run(*map(int, sys.argv[1:]))
"""


class Verdict(NamedTuple):
    passed: bool
    why: str  # empty when it has passed


@dataclass(frozen=True)
class Sandbox:
    """Where programs run; `find` gives one that works."""

    bubblewrap: str
    is_root: bool

    @classmethod
    def find(cls) -> Sandbox:
        """Raises StrataError where programs cannot be isolated: what is missing, and what to install."""
        if not sys.platform.startswith("linux"):
            raise StrataError(f"code that a model wrote is run on Linux alone, in namespaces of its own, and this is {sys.platform}")
        found = shutil.which("bwrap")
        if found is None:
            raise StrataError(f"code that a model wrote is not run without isolation, and bubblewrap (bwrap) is not here: {INSTALL}")
        sandbox = cls(found, os.geteuid() == 0)
        if not (tried := sandbox.run("assert 1 + 1 == 2")).passed:
            raise StrataError(
                f"code that a model wrote is not run without isolation, and bubblewrap does not work here ({tried.why}): allow namespaces "
                "to it, or run where they are allowed"
            )
        return sandbox

    def run(self, program: str) -> Verdict:
        """Whether a Python program runs to its end, within all limits."""
        nonce = secrets.token_hex(16)
        user = FIRST_USER + secrets.randbelow(1 << 28) if self.is_root else 0
        limits = (user, SECONDS, MEMORY // PROCESSES, FILES, PROCESSES)
        with TemporaryFile() as given, TemporaryFile() as printed, TemporaryFile() as said, TemporaryFile() as calls:  # limited in size
            for file, content in ((given, f"{nonce}\n{program}".encode(errors="replace")), (calls, refused_calls(platform.machine()))):
                file.write(content)
                file.seek(0)
            command = [*self._isolated(calls.fileno()), "-c", LAUNCHER, *map(str, limits)]
            options: dict[str, Any] = {"env": {}, "start_new_session": True, "cwd": "/", "pass_fds": [calls.fileno()]}
            with subprocess.Popen(command, stdin=given, stdout=printed, stderr=said, **options) as process:
                try:
                    code = process.wait(REAL_SECONDS)
                except subprocess.TimeoutExpired:
                    return Verdict(False, f"it ran for more than {REAL_SECONDS:g} s")
                finally:
                    process.kill()  # and with it, by --die-with-parent, all that is in its namespaces
            printed.seek(0)
            said.seek(0)
            if printed.read(OUTPUT) == nonce.encode():
                return Verdict(True, "")
            lines = said.read(OUTPUT).decode(errors="replace").splitlines()
            return Verdict(False, visible(lines[-1]) if lines else f"it ended with code {code}")

    def _isolated(self, calls: int) -> list[str]:
        """bubblewrap up to Python: a file system of programs alone, which can be written in /tmp, namespaces of its own, and `calls`."""
        python, place = Path(sys._base_executable).resolve(), Path(sys.base_prefix).resolve()  # type: ignore[attr-defined]
        apart = ["net", "pid", "ipc", "uts", "cgroup-try"] if self.is_root else ["all"]
        words = [self.bubblewrap, *(f"--unshare-{name}" for name in apart), "--die-with-parent", "--new-session", "--clearenv"]
        words += ["--seccomp", str(calls)]
        words += ["--ro-bind", "/usr", "/usr"]
        for name in ("bin", "lib", "lib64", "lib32"):
            path = Path("/", name)
            if path.is_symlink():
                words += ["--symlink", os.readlink(path), str(path)]
            elif path.is_dir():
                words += ["--ro-bind", str(path), str(path)]
        if not python.is_relative_to("/usr"):
            words += ["--ro-bind", str(place), "/python"]
            python = Path("/python") / python.relative_to(place)
        words += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", str(FILES), "--tmpfs", "/tmp"]  # noqa: S108 - inside
        return [*words, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", str(python), "-I", "-S", "-B"]  # noqa: S108


def refused_calls(machine: str) -> bytes:
    """A filter of system calls, as the kernel reads it (seccomp(2)), under which those of CALLS fail; on other machines none does."""
    architecture, numbers = CALLS.get(machine, (None, ()))
    if architecture is None:
        return _step(RETURN, ALLOW)
    tests = [(EQUAL, number) for number in numbers]
    if machine == "x86_64":
        tests.append((AT_LEAST, 0x40000000))  # the same calls by other numbers (x32)
    steps = [_step(LOAD, 4), _step(EQUAL, architecture, 0, len(tests) + 2), _step(LOAD, 0)]
    steps += [_step(test, number, len(tests) - i, 0) for i, (test, number) in enumerate(tests)]
    return b"".join([*steps, _step(RETURN, ALLOW), _step(RETURN, FAIL)])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Of such a filter; where a test leads to is said in steps that are passed over."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
