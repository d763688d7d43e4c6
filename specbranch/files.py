"""Files that appear whole or stay as they were, whatever interrupts their writing."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_OF_THE_SYSTEM = ("/dev/", "/proc/")  # /dev/stdout may be a file that others write to, too


@contextmanager
def unfinished(path: str | Path) -> Iterator[Path]:
    """A path to write to, in the folder of `path`, which is made; the file takes the place of
    `path` at the end, on disk by then, and is gone after an error.

    Of a link, the file that it leads to is replaced; an existing file's mode and owner stay. What
    is no regular file (a device, a FIFO), or cannot be replaced, is written to at the end.
    Several may write the same file at a time: one of them has the last word.
    """
    if _is_written_to(path):
        with tempfile.TemporaryDirectory() as folder:
            beside = Path(folder, "file")
            yield beside
            with beside.open("rb") as file, _opened(path) as there:
                shutil.copyfileobj(file, there)
        return
    place = Path(os.path.realpath(path))
    beside = _begun_beside(place)
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write a file (see `unfinished`). Text becomes UTF-8."""
    with unfinished(path) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)


def require_writable(name: str, path: str | Path | None) -> None:
    """Make the folder of a file that is to be written, if there is to be one.

    Raises ValueError, naming the argument, where it could not be written.
    """
    if path is None:
        return
    try:
        if os.path.isdir(path):
            raise IsADirectoryError("it is a folder")
        if not _is_written_to(path):
            _begun_beside(Path(os.path.realpath(path))).unlink()
        elif not os.access(path, os.W_OK):
            raise PermissionError("it must not be written to")
    except OSError as error:
        raise ValueError(f"{name}: expected a file that can be written, got {path}: {error}") from (
            error
        )


def _is_written_to(path: str | Path) -> bool:
    """Whether there is something in place of which no file can or should be put."""
    try:
        is_regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
    if not is_regular or os.path.abspath(path).startswith(_OF_THE_SYSTEM):
        return True
    place = os.path.realpath(path)
    return os.path.ismount(place) or not os.access(os.path.dirname(place), os.W_OK)


def _opened(path: str | Path):  # type: ignore[no-untyped-def]
    """To write to what is there: what is a file of the system's may have been written to already,
    a regular file is emptied."""
    keep = os.path.abspath(path).startswith(_OF_THE_SYSTEM)
    flags = os.O_WRONLY | (os.O_APPEND if keep else os.O_TRUNC)
    return os.fdopen(os.open(path, flags), "wb")


def _begun_beside(place: Path) -> Path:
    """An empty file in the folder, as private as the one whose place it will take."""
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name[:40]}.{os.getpid()}-{threading.get_ident()}")
    with suppress(FileNotFoundError):
        found = place.stat()
        beside.touch(0o600)
        with suppress(PermissionError):
            os.chown(beside, found.st_uid, found.st_gid)
        beside.chmod(stat.S_IMODE(found.st_mode))
        return beside
    beside.touch()
    return beside
