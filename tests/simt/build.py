"""Builds the kernels for the CPU: CMake, ninja and g++, into build/simt."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD_DIR = ROOT / "build" / "simt"


@functools.cache
def library(name: str) -> Path:
    """The shared library of one family of kernels, up to date."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    cmake, ninja = (shutil.which(tool, path=path) for tool in ("cmake", "ninja"))
    assert cmake, "cmake is needed: pip install cmake"
    assert ninja, "ninja is needed: pip install ninja"
    BUILD_DIR.mkdir(parents=True, exist_ok=True)
    with open(BUILD_DIR / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        configure = [cmake, "-S", Path(__file__).parent, "-B", BUILD_DIR, "-G", "Ninja"]
        _run([*configure, f"-DCMAKE_MAKE_PROGRAM={ninja}"])
        _run([cmake, "--build", BUILD_DIR, "--target", name])
    return BUILD_DIR / f"{name}.so"


def _run(command: list[str | Path]) -> None:
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
