"""Cores for those who share them by OpenMP.

Its threads stay awake between two operations only while the process has no more of them than there
are cores, those of threads that do nothing now among them. So who has answered lets its team go.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch

_PAUSE_HARD = 2


@cache
def _runtimes() -> list[ctypes.CDLL]:
    """GNU's, where torch has it."""
    found = (Path(torch.__file__).parent / "lib").glob("libgomp*")
    return [ctypes.CDLL(str(library)) for library in found]


def release_team() -> None:
    """End the OpenMP threads that the calling thread has started."""
    for runtime in _runtimes():
        runtime.omp_pause_resource_all(_PAUSE_HARD)
