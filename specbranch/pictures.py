"""Pictures of any format that matplotlib draws."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from specbranch.files import unfinished


def format_of(path: str | Path) -> str:
    """The format that a path's suffix names. Raises ValueError if it names none."""
    found = Path(path).suffix.removeprefix(".").lower()
    known = FigureCanvasBase.get_supported_filetypes()
    if found not in known:
        raise ValueError(f"picture: expected a file of {', '.join(sorted(known))}, got {path}")
    return found


def save_picture(figure: Figure, path: str | Path) -> None:
    """Write a figure in the format of the path's suffix."""
    picture = format_of(path)
    with unfinished(path) as beside:
        figure.savefig(beside, format=picture, dpi=150)
