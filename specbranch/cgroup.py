"""What the control groups of this process leave it, of cores and of memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def quota() -> float:
    """Cores' worth of time, infinite without a limit."""
    shares = [float("inf")]
    for folder in _folders("cpu"):
        with suppress(OSError, ValueError):
            limit, period = (folder / "cpu.max").read_text().split()
            shares.append(int(limit) / int(period))
        with suppress(OSError, ValueError):
            limit, period = (
                (folder / f"cpu.cfs_{each}_us").read_text() for each in ("quota", "period")
            )
            if int(limit) > 0:
                shares.append(int(limit) / int(period))
    return min(shares)


def free_memory() -> int:
    """Bytes that may still be taken, a very large number without a limit."""
    left = [sys.maxsize]
    for folder in _folders("memory"):
        for most, now in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            with suppress(OSError, ValueError):
                limit, used = ((folder / name).read_text() for name in (most, now))
                left.append(max(0, int(limit) - int(used) + _reclaimable(folder)))
    return min(left)


def _reclaimable(folder: Path) -> int:
    """Bytes of files that the kernel holds, and drops when it needs the memory."""
    lines = (folder / "memory.stat").read_text().splitlines()
    found = dict(line.split() for line in lines)
    return int(found.get("total_inactive_file", found.get("inactive_file", 0)))


def _folders(controller: str) -> Iterator[Path]:
    """Of the groups that this process is in, those above them among them: in version 2, and in
    version 1 of the controller. In a container the root is the process's own group."""
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        root = ROOT / names if names else ROOT
        group = root / path.lstrip("/")
        yield from (each for each in (group, *group.parents) if each.is_relative_to(root))
