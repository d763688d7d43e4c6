"""Parts of an installation that not everybody has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Tells, where a module is missing, what wanted it and the command that brings it.

    Raises ImportError for ModuleNotFoundError of what is not ours.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "specbranch":
            raise
        wanted = f"pip install 'specbranch[{extra}]'"
        raise ImportError(f"{what}: {error.name} is not installed: {wanted}") from error
