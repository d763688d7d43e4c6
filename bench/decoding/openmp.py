"""Cores for those who share them by OpenMP.

Its threads stay awake between two operations only while the process has no more of them than there
are cores, those of threads that do nothing now among them. So who has answered lets its team go.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

_PAUSE_HARD = 2


def release_team() -> None:
    """End the OpenMP threads that the calling thread has started, where torch has GNU's."""
    for library in (Path(torch.__file__).parent / "lib").glob("libgomp*"):
        ctypes.CDLL(str(library)).omp_pause_resource_all(_PAUSE_HARD)
