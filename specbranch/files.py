"""Files that appear whole or stay as they were, whatever interrupts their writing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unfinished(path: str | Path) -> Iterator[Path]:
    """A path to write to, in the folder of `path`, which is made; the file takes the place of
    `path` at the end, on disk by then, and is gone after an error.

    Several may write the same file at a time: one of them has the last word.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write a file (see `unfinished`). Text becomes UTF-8."""
    with unfinished(path) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
