"""What is made and dropped leaves no memory behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_engines_and_reloaded_pairs_leave_nothing_behind():
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-m", "tests.engine.growth"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=300)
    an_engine, a_reload = map(float, run.stdout.split())
    assert an_engine < 0.1
    assert a_reload < 0.1
