"""What is made and dropped leaves no memory behind, nor do requests that come and go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def printed(module: str) -> list[float]:
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-m", f"tests.engine.{module}"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=300)
    return [*map(float, run.stdout.split())]


def test_engines_and_reloaded_pairs_leave_nothing_behind():
    an_engine, a_reload = printed("growth")
    assert an_engine < 0.1
    assert a_reload < 0.1


@pytest.mark.long
def test_thousands_of_requests_leave_nothing_behind():
    grown, pages_kept = printed("endurance")
    assert grown < 5  # kernels for numbers of rows that come up late; 0.4 kB a request in the end
    assert pages_kept == 0
