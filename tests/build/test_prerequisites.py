"""What `make` says before it downloads anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "prerequisites.sh"


def look(python: str = sys.executable, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, python], capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_nothing_is_said_where_nothing_is_missing() -> None:
    found = look()
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_a_missing_compiler_is_named_with_its_package() -> None:
    found = look(CXX="no-such-compiler")
    assert found.returncode == 1
    assert "missing: a C++20 compiler (no-such-compiler)" in found.stderr
    assert "sudo apt-get install -y g++\n" in found.stderr


def test_a_python_without_headers_is_told(tmp_path: Path) -> None:
    python = tmp_path / "python"
    lie = "import sysconfig; sysconfig.get_path = lambda name: '/no/such/folder'"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{lie}\n$2"\n')
    python.chmod(0o755)
    found = look(str(python))
    assert found.returncode == 1
    assert "missing: Python's headers (Python.h)" in found.stderr
    assert found.stderr.endswith("sudo apt-get install -y python3-dev\n")


def test_an_old_or_absent_python_is_all_that_is_said_of_it() -> None:
    found = look("no-such-python")
    assert found.returncode == 1
    assert "Python 3.10 or newer (no-such-python)" in found.stderr
    assert "headers" not in found.stderr
