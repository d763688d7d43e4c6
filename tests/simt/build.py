"""Builds the kernels for the CPU: CMake, ninja and g++, and nvcc for PTX, into build/simt*."""

from __future__ import annotations

import fcntl
import functools
import os
import platform
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PTX_ARCH = os.environ.get("SIMT_PTX", "").removeprefix("sm_")
"""The architecture whose PTX is run; sources are, where it is empty."""
BUILD_DIR = ROOT / "build" / (f"simt-sm_{PTX_ARCH}" if PTX_ARCH else "simt")


@functools.cache
def library(name: str) -> Path:
    """The shared library of one family of kernels, up to date."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    tools = [shutil.which(tool, path=path) for tool in ("cmake", "ninja", "g++")]
    if None in tools or platform.machine() != "x86_64":
        pytest.skip("cmake, ninja and g++ on x86-64 are needed to run kernels on the CPU")
    if PTX_ARCH and shutil.which("nvcc") is None:
        pytest.skip("nvcc is needed to make PTX of kernels")
    cmake, ninja, compiler = tools
    BUILD_DIR.mkdir(parents=True, exist_ok=True)
    with open(BUILD_DIR / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        chosen = [f"-DCMAKE_MAKE_PROGRAM={ninja}", f"-DCMAKE_CXX_COMPILER={compiler}"]
        chosen.append(f"-DPTX_ARCH={PTX_ARCH}")
        _run(cmake, "-S", Path(__file__).parent, "-B", BUILD_DIR, "-G", "Ninja", *chosen)
        _run(cmake, "--build", BUILD_DIR, "--target", name)
    return BUILD_DIR / f"{name}.so"


def _run(*command: str | Path) -> None:
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
