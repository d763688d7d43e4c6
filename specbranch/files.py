"""Files that appear whole or stay as they were, whatever interrupts their writing."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write a file, and the folders it is in. Text is written as UTF-8.

    Processes may write the same file at a time: one of them has the last word.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(unfinished, path)
