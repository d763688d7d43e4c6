"""What a process holds now, and the most that it held since it was last asked to forget."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

import torch

PROCESS = Path("/proc/self")


def held_bytes(device: torch.device) -> int:
    """Memory in use: what tensors take on a GPU, else what is resident of the process."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    pages = int((PROCESS / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


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
