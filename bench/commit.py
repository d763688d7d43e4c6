"""Which code a result is of."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

CODE = ("specbranch", "csrc", "bench")


@cache
def commit() -> str:
    """The latest that changed the code, with a + where files differ from it; empty outside git."""
    try:
        latest = _git("log", "-1", "--format=%h", "--", *CODE)
        return latest + ("+" if _git("status", "--porcelain", "--", *CODE) else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
