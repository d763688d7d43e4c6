"""build_info() tells what the installation is, and the kernels obey the wanted capability."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

import specbranch

ROOT = Path(__file__).parents[2]
CAPABILITIES = ["default", "avx2", "avx512"]


def test_it_names_versions_and_targets() -> None:
    info = specbranch.build_info()
    assert info["torch"] == torch.__version__
    assert info["cpu_capability"] in info["cpu_capabilities"].split()
    assert bool(info["cuda"]) == bool(info["cuda_archs"])
    for key in ("git_hash", "compiler", "torch_build", "python"):
        assert info[key], key
    assert all(isinstance(value, str) for value in info.values())


def test_the_version_has_one_place() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    declared = re.search(r'^version = "(.*)"$', pyproject, re.MULTILINE)[1]
    info = specbranch.build_info()
    assert info["specbranch"] == info["version"] == specbranch.__version__ == declared
    assert version("specbranch") == declared


def capability_under(wanted: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "import specbranch; print(specbranch.build_info()['cpu_capability'])",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "SPECBRANCH_CPU_CAPABILITY": wanted},
    )


def test_the_environment_lowers_the_capability_or_says_why_not() -> None:
    compiled = specbranch.build_info()["cpu_capabilities"].split()
    for wanted in CAPABILITIES:
        process = capability_under(wanted)
        usable = [c for c in compiled if CAPABILITIES.index(c) <= CAPABILITIES.index(wanted)]
        if usable:
            assert CAPABILITIES.index(process.stdout.strip()) <= CAPABILITIES.index(wanted)
        else:
            assert f"the CPU kernels need at least {compiled[0]}" in process.stderr


def test_an_unknown_capability_is_refused() -> None:
    process = capability_under("sse9")
    assert (
        "SPECBRANCH_CPU_CAPABILITY: expected default, avx2 or avx512, got 'sse9'" in process.stderr
    )
