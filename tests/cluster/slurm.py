"""Slurm on this machine, as root and without systemd: munged, slurmctld and slurmd with two cores, all they write in one folder."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "squeue", "runuser")
SETTINGS = """
ClusterName=sandbox
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
JobCompLoc={folder}/completed
JobCompType=jobcomp/filetxt
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
ReturnToService=2
SlurmdTimeout=60
KillWait=5
MinJobAge=3600
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def why_not() -> str:
    """Why Slurm cannot be started here; empty where it can."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"{', '.join(missing)} not installed: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "Slurm's daemons are started as root here"
    return ""


class Slurm:
    """Daemons that run from `start` to `stop`; `environment` is for its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.host = folder, platform.node().partition(".")[0]
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons: list[int] = []

    def start(self) -> None:
        """Raises RuntimeError, with what its logs end with, when the node does not become idle."""
        self._files()
        at = {name: f"--{name}={self.folder / f'munge.{name}'}" for name in ("socket", "key-file", "pid-file", "log-file", "seed-file")}
        self._run("runuser", "-u", "munge", "--", "munged", *at.values())
        self._run("slurmctld", "-c", "-f", str(self.folder / "slurm.conf"))
        self._run("slurmd", "-f", str(self.folder / "slurm.conf"), "-N", self.host)
        if not until(self._idle, 60):
            raise RuntimeError("\n".join(path.read_text()[-1500:] for path in self.folder.glob("slurm*.log")))

    def _idle(self) -> bool:
        try:
            return "idle" in self._run("sinfo", "-h", "-o", "%T")
        except RuntimeError:  # it does not answer yet
            return False

    def _files(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "munge.key-file").write_bytes(os.urandom(128))
        (self.folder / "munge.key-file").chmod(0o400)
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            places = {"folder": self.folder, "host": self.host, "port": one.getsockname()[1], "node_port": other.getsockname()[1]}
        (self.folder / "slurm.conf").write_text(SETTINGS.format(**places))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        for path in (self.folder, self.folder / "munge.key-file"):
            shutil.chown(path, "munge", "munge")
        for parent in self.folder.parents:  # munged runs as another user, and must reach its files
            if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, cwd=self.folder)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-1500:]}")
        return done.stdout

    def __call__(self, *command: str) -> str:
        """The output of one of its commands."""
        return self._run(*command)

    def states(self, job: str) -> dict[str, str]:
        """Of a job, or of each task of an array by its number."""
        shown = self._run("scontrol", "show", "job", job, "-o")
        found = {}
        for line in shown.splitlines():
            task, state = re.search(r"ArrayTaskId=(\S+)", line), re.search(r"JobState=(\S+)", line)
            found[task[1] if task else ""] = state[1] if state else ""
        return found

    def stop(self) -> None:
        subprocess.run(["scancel", "--state=RUNNING", "-f"], env=self.environment, capture_output=True, check=False)
        for name in ("slurmd.pid", "slurmctld.pid", "munge.pid-file"):
            path = self.folder / name
            if path.exists() and path.read_text().strip():
                pid = int(path.read_text())
                for number in (signal.SIGTERM, signal.SIGKILL):
                    try:
                        os.kill(pid, number)
                    except ProcessLookupError:
                        break
                    until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), 10)


def until(true: Callable[[], bool], seconds: float) -> bool:
    """Waits for it: whether it came."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.2)
    return False
