"""What importing does, and what it says where it cannot work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def succeeds(code: str, **environment: str) -> str:
    process = run(code, **environment)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_the_module_alone_brings_ops_and_fakes() -> None:
    succeeds(
        """
import specbranch._C as C
import torch
assert torch.ops.specbranch.branch_attention
parents = torch.empty(2, 40, dtype=torch.int32, device="meta")
n_nodes, row_indptr = (torch.empty(n, dtype=torch.int32, device="meta") for n in (2, 3))
mask, depth = C.tree_mask(parents, n_nodes, row_indptr, 7)
assert mask.shape == (7, 2) and depth.shape == (7,)
"""
    )


def test_importing_the_package_does_not_import_torch() -> None:
    assert succeeds("import specbranch, sys; print('torch' in sys.modules)") == "False"


def test_public_names_are_there() -> None:
    succeeds("import specbranch\nfor name in specbranch.__all__: getattr(specbranch, name)")


def test_an_unknown_name_is_an_attribute_error() -> None:
    process = run("import specbranch; specbranch.nonsense")
    assert "AttributeError: module 'specbranch' has no attribute 'nonsense'" in process.stderr


@pytest.mark.parametrize("old", ["2.10.1+cpu", "1.13.0"])
def test_a_torch_that_is_too_old_is_named_in_one_line(old: str) -> None:
    process = run(
        f"""
import sys, types
sys.modules["torch"] = types.SimpleNamespace(__version__="{old}")
import specbranch._C
"""
    )
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        f"ImportError: specbranch needs torch 2.11 or newer, but torch {old} is installed"
    )


@pytest.mark.parametrize("new", ["2.11.0", "2.14.1+cu130", "3.0.0a0+git1234", "unknown"])
def test_other_versions_of_torch_pass(new: str) -> None:
    succeeds(
        f"""
import sys, types
sys.modules["torch"] = types.SimpleNamespace(__version__="{new}")
import specbranch
"""
    )


@pytest.fixture
def driver(tmp_path: Path) -> dict[str, str]:
    """An environment in which there is a libcuda.so.1; with a CUDA build of torch, which wants more
    of it, it is for the machine to have one."""
    if torch.version.cuda:
        return {}
    compiler = shutil.which("cc")
    assert compiler, "a C compiler is needed to build the stand-in for libcuda"
    source = tmp_path / "libcuda.c"
    source.touch()
    library = tmp_path / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", library], check=True)
    return {"LD_LIBRARY_PATH": str(tmp_path)}


DRIVERS = """
import torch
def drivers():
    return {line.split()[-1] for line in open("/proc/self/maps") if "libcuda" in line}
before = drivers()
"""


def test_importing_brings_no_more_of_cuda_than_torch_does(driver: dict[str, str]) -> None:
    code = "import specbranch.ops\nassert drivers() == before and not torch.cuda.is_initialized()"
    succeeds(DRIVERS + code, **driver)
    if driver:
        code = "import ctypes; ctypes.CDLL('libcuda.so.1')\nassert drivers() != before"
        succeeds(DRIVERS + code, **driver)


def test_the_binary_finds_torch_wherever_python_does() -> None:
    """Its own path leads to a torch beside it, which an environment over another one has not."""
    succeeds(
        """
import sys
from importlib.machinery import ExtensionFileLoader as Loader
load, seen = Loader.create_module, []
def loading(self, spec):
    if spec.name == "specbranch._C":
        seen.append("torch" in sys.modules)
    return load(self, spec)
Loader.create_module = loading
import specbranch._C
assert seen == [True], seen
"""
    )
