"""The most memory in use since a process was last asked to forget."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

import torch

PROCESS = Path("/proc/self")


def forget_peak(device: torch.device) -> None:
    """Let `peak_bytes` begin anew, where the system allows that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # without leave the peak is that of the process so far
        (PROCESS / "clear_refs").write_text("5")


def peak_bytes(device: torch.device) -> int:
    """The most in use since `forget_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    for line in (PROCESS / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
