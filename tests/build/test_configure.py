"""What CMake says about the choices that the environment makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def configure(build_dir: Path, *options: str, **environment: str) -> str:
    """Configures the kernels alone and returns what CMake said, on failure too."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    cmake, ninja = (shutil.which(tool, path=path) for tool in ("cmake", "ninja"))
    assert cmake, "cmake is needed: pip install cmake ninja"
    kernels_only = [
        "-DSPECBRANCH_PYTHON=OFF",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-DCMAKE_MAKE_PROGRAM={ninja}",
    ]
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


USUAL_NVCC = Path("/usr/local/cuda/bin/nvcc")


@pytest.mark.skipif(not USUAL_NVCC.exists(), reason="no CUDA toolkit in its usual place")
def test_nvcc_is_found_in_its_usual_place_and_compiles_for_the_gpus_here(tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nprintf '9.0\\n9.0\\n'\n")
    smi.chmod(0o755)
    cleared = {"CUDA_HOME": "", "CUDACXX": "", "TORCH_CUDA_ARCH_LIST": ""}
    cleared["PATH"] = f"{tmp_path}:/usr/bin:/bin"
    said = configure(tmp_path / "build", "-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF", **cleared)
    assert f"kernels for 90-real, because {USUAL_NVCC} was found" in said


@pytest.mark.parametrize("cuda", ["'13.0'", "None"])
def test_a_cuda_torch_without_cuda_kernels_is_warned_of(tmp_path: Path, cuda: str) -> None:
    for folder in ("torch/include", "torch-2.13.0.dist-info"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "torch/__init__.py").touch()
    (tmp_path / "torch/version.py").write_text(f"cuda: Optional[str] = {cuda}\n")
    metadata = "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\n"
    (tmp_path / "torch-2.13.0.dist-info/METADATA").write_text(metadata)
    missing = {"CUDACXX": "/nowhere/nvcc", "CUDA_HOME": "", "PYTHONPATH": str(tmp_path)}
    said = configure(tmp_path / "build", **missing)
    assert ("torch is built for CUDA 13.0, but there will be no CUDA" in said) == (cuda != "None")


def test_an_unknown_dispatch_is_refused(tmp_path: Path) -> None:
    said = configure(tmp_path, "-DSPECBRANCH_CUDA=0", "-DSPECBRANCH_CPU_DISPATCH=fast")
    assert "SPECBRANCH_CPU_DISPATCH: expected native or all, got 'fast'" in said
