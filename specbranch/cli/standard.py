"""Standard streams as they come: closed, narrow, or gone on the way."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import TextIO

from specbranch.texts import read_text


def never_fail_to_encode(stream: TextIO | None) -> None:
    """Let it show `?` for a character that it lacks."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")


def drop_unwritten(stream: TextIO | None) -> None:
    """Let what it cannot take go, so that the interpreter does not try once more at its end."""
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
            os.close(nowhere)


def read_standard_input() -> str:
    """All of it. Raises ValueError where it is closed or no UTF-8."""
    if sys.stdin is None:
        raise ValueError("prompt: expected a text on standard input, which is closed")
    return read_text("standard input", sys.stdin.buffer.read())
