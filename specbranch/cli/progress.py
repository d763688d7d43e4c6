"""Progress bars of long commands, on standard error."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def progress_bar() -> Progress:
    """A bar with the time that is left."""
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, *times, console=Console(stderr=True))


def run_bar() -> Progress:
    """A bar over timed runs. It is redrawn between them only: a timed run has the cores."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    stderr = Console(stderr=True)
    return Progress(*columns, TimeElapsedColumn(), console=stderr, auto_refresh=False)


def reading_bar() -> Progress:
    """A bar over a prompt's tokens, gone when it is read; redrawn between rounds only."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
