"""Free memory, as the kernel and control groups say it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters.memory import free

CPU = torch.device("cpu")
GB = 1 << 30


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


RAM = {"proc/meminfo": f"MemTotal: {64 << 20} kB\nMemAvailable: {16 << 20} kB\n"}
V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"


def group(folder: str, limit: str, usage: int, inactive: int) -> dict[str, str]:
    old = folder.startswith(V1)
    names = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        if old
        else ("memory.max", "memory.current", "inactive_file")
    )
    return {
        f"{folder}/{names[0]}": limit,
        f"{folder}/{names[1]}": f"{usage}\n",
        f"{folder}/memory.stat": f"anon 5\n{names[2]} {inactive}\n",
    }


CASES = {
    "no groups": ({}, 16),
    "version 2": ({"proc/self/cgroup": "0::/a/b\n"} | group(f"{V2}/a/b", f"{6 * GB}\n", 3 * GB, GB), 4),
    "a limit above it": (
        {"proc/self/cgroup": "0::/a/b\n"} | group(f"{V2}/a/b", "max\n", GB, 0) | group(f"{V2}/a", f"{5 * GB}", 3 * GB, 0),
        2,
    ),
    "a container": ({"proc/self/cgroup": "0::/outside\n"} | group(V2, f"{5 * GB}", 3 * GB, 0), 2),
    "version 1": ({"proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/x\n"} | group(f"{V1}/x", f"{9 * GB}", 2 * GB, GB), 8),
    "version 1, no limit": ({"proc/self/cgroup": "4:memory:/x\n"} | group(f"{V1}/x", "9223372036854771712", 2 * GB, GB), 16),
    "used up": ({"proc/self/cgroup": "0::/\n"} | group(V2, f"{2 * GB}", 3 * GB, 0), 0),
}


@pytest.mark.parametrize("case", CASES)
def test_the_smallest_of_what_is_left(case: str, tmp_path: Path) -> None:
    files, gigabytes = CASES[case]
    assert free(CPU, written(tmp_path, RAM | files)) == gigabytes * GB


def test_here_and_elsewhere(tmp_path: Path) -> None:
    assert 0 < free(CPU) < free(torch.device("meta"))
    assert free(CPU, tmp_path) > 0  # no /proc
