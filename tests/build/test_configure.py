"""What CMake says about the choices that the environment makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def configure(build_dir: Path, *options: str, **environment: str) -> str:
    """Configures the kernels alone and returns what CMake said, on failure too."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    cmake = shutil.which("cmake", path=path)
    assert cmake, "cmake is needed: pip install cmake ninja"
    kernels_only = ["-DSPECBRANCH_PYTHON=OFF", f"-DPython_EXECUTABLE={sys.executable}"]
    process = subprocess.run(
        [cmake, "-S", ROOT, "-B", build_dir, "-G", "Ninja", *kernels_only, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, **environment},
    )
    return " ".join((process.stdout + process.stderr).split())


def test_cuda_can_be_switched_off(tmp_path: Path) -> None:
    said = configure(tmp_path, "-DSPECBRANCH_CUDA=0")
    assert "no CUDA kernels, because SPECBRANCH_CUDA=0" in said


def test_no_nvcc_means_no_cuda_kernels(tmp_path: Path) -> None:
    said = configure(tmp_path, CUDACXX="/nowhere/nvcc", CUDA_HOME="")
    assert "no CUDA kernels, because no working nvcc was found" in said


def test_cuda_can_be_demanded(tmp_path: Path) -> None:
    said = configure(tmp_path, "-DSPECBRANCH_CUDA=1", CUDACXX="/nowhere/nvcc", CUDA_HOME="")
    assert "SPECBRANCH_CUDA=1, but no working nvcc was found" in said


def test_an_unknown_dispatch_is_refused(tmp_path: Path) -> None:
    said = configure(tmp_path, "-DSPECBRANCH_CUDA=0", "-DSPECBRANCH_CPU_DISPATCH=fast")
    assert "SPECBRANCH_CPU_DISPATCH: expected native or all, got 'fast'" in said
