"""Runs programs that a model wrote: in namespaces of their own, without network, home, environment or descriptors, within limits.

It takes bubblewrap (https://github.com/containers/bubblewrap) on Linux; without it nothing is run. Started by root, a program runs
as a user of its own, whose processes can be counted; a user namespace would hide them from that count. That a program has
passed is told by a nonce which is printed behind its tests, since an exit code of 0 can be had by leaving early. A program that
looks for the nonce in the frames of its own process can find it: the limits hold nevertheless.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

from adapters.errors import StrataError, visible

SECONDS = 3  # of computing; code_eval of the hub gives so many of real time
REAL_SECONDS = 15.0  # in which a machine that does other things as well gets there
MEMORY = 1 << 30  # bytes of each process
FILES = 16 << 20  # bytes of all that is written
PROCESSES = 8
OUTPUT = 4096  # bytes that are read of what is printed
FIRST_USER = 0x60000000  # of users that no other process has
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
        command = [*self._isolated(), "-c", LAUNCHER, *map(str, (user, SECONDS, MEMORY, FILES, PROCESSES))]
        with TemporaryFile() as given, TemporaryFile() as printed, TemporaryFile() as said:  # files, whose sizes are limited
            given.write(f"{nonce}\n{program}".encode(errors="replace"))
            given.seek(0)
            with subprocess.Popen(command, stdin=given, stdout=printed, stderr=said, env={}, start_new_session=True, cwd="/") as process:
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

    def _isolated(self) -> list[str]:
        """bubblewrap up to Python: a file system of programs alone, which can be written in /tmp, and namespaces of its own."""
        python, place = Path(sys._base_executable).resolve(), Path(sys.base_prefix).resolve()  # type: ignore[attr-defined]
        apart = ["net", "pid", "ipc", "uts", "cgroup-try"] if self.is_root else ["all"]
        words = [self.bubblewrap, *(f"--unshare-{name}" for name in apart), "--die-with-parent", "--new-session", "--clearenv"]
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
