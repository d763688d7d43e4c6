"""Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], *rows: Sequence[str]) -> list[str]:
    """The lines of a table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    return [lines[0], "|---" * len(header) + "|", *lines[1:]]
