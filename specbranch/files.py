"""Files that appear whole or stay as they were, whatever interrupts their writing."""

from __future__ import annotations

import os
import threading
from pathlib import Path


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write a file, and the folders it is in; on disk when this returns. Text becomes UTF-8.

    Several may write the same file at a time: one of them has the last word.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with unfinished.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
