"""How much memory can be taken: RAM within the limits of control groups, or what a card has free."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from adapters.errors import StrataError

ROOT = Path("/")
FILLED = 0.9  # of what is free: who takes more leaves too little for the rest
SHARED = {"by": 1}  # processes of one study that take RAM side by side
UNLIMITED = 1 << 60  # what version 1 of control groups says of no limit is above it


def free(device: torch.device, root: Path = ROOT) -> int:
    """Bytes on a device that new tensors can take. On the meta device, where they take none, there is no end of them."""
    if device.type == "meta":
        return sys.maxsize
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # what torch keeps for its next tensors
        return torch.cuda.mem_get_info(device)[0] + cached
    return max(0, min((_available(root), *_of_groups(root)))) // SHARED["by"]


def default_memory(device: torch.device) -> int:
    """What a study takes where nothing is said: half of what is free."""
    return free(device) // 2


def within_free(memory: int | None, device: torch.device) -> int | None:
    """`memory` as it was given. Raises StrataError where there is less."""
    if memory is not None and memory > (room := free(device)):
        raise StrataError(f"{megabytes(memory)} of memory were given, and {megabytes(room)} are free on {device}: give less, or none")
    return memory


def megabytes(n: int) -> str:
    return f"{n / 2**20:,.0f} MB"


def _available(root: Path) -> int:
    """RAM that can be had without swapping; where the kernel does not say, half of what is there."""
    try:
        lines = (line.split() for line in (root / "proc/meminfo").read_text().splitlines())
        return next(int(words[1]) << 10 for words in lines if words[0] == "MemAvailable:")
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


def _of_groups(root: Path) -> Iterator[int]:
    """What each control group that this process is in leaves of its limit: version 2, and the memory controller of version 1.

    Pages of files that nobody uses count as free, since the kernel takes them first.
    """
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for _, controllers, path in groups:
        if not controllers:
            yield from _left(mount, path, "memory.max", "memory.current", "inactive_file")
            yield from _left(mount / "unified", path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            yield from _left(mount / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _left(mount: Path, path: str, limit: str, usage: str, inactive: str) -> Iterator[int]:
    """Of a group and all above it. In a container the path may be that outside of it: then the mount is its own group."""
    group = mount / path.lstrip("/")
    for folder in [group, *group.parents] if group.is_dir() else [mount]:
        if not folder.is_relative_to(mount):
            return
        try:
            allowed = (folder / limit).read_text().strip()
            if allowed != "max" and int(allowed) < UNLIMITED:
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                yield int(allowed) - int((folder / usage).read_text()) + int(stat.get(inactive, 0))
        except (OSError, ValueError):
            continue
