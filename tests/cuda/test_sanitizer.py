"""Every op under compute-sanitizer: memory, races and barriers, as the hardware meets them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "tests.cuda.every_op"
ROOT = Path(__file__).parents[2]
TOOLKITS = [os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"]
SANITIZER = shutil.which(
    "compute-sanitizer",
    path=os.pathsep.join([os.environ["PATH"], *(f"{home}/bin" for home in TOOLKITS if home)]),
)


@pytest.mark.skipif(SANITIZER is None, reason="compute-sanitizer is not installed")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
def test_compute_sanitizer_finds_nothing(tool):
    watched = subprocess.run(
        [SANITIZER, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", PROGRAM],
        cwd=ROOT,
        # An allocation of its own for each tensor, so that no overrun lands in a neighbour.
        env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    said = watched.stdout + watched.stderr
    if "Device not supported" in said:
        pytest.skip("compute-sanitizer does not support this machine's GPU")
    assert watched.returncode == 0, said[-4000:]
