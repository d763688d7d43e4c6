"""Pictures of any format that matplotlib draws, and the methods' colours in them."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from specbranch.files import unfinished

METHOD_COLORS = {
    "ar": "#8a8f98",
    "sps": "#4c78a8",
    "adaedl": "#5fb3b3",
    "pearl": "#e9a23b",
    "specbranch": "#c2478f",
    "ssd": "#8067b7",
    "bestfirst": "#4f9d4f",
    "auto": "#d65f4c",
    "transformers": "#a9a089",
    "assisted": "#7d7460",
    "llama.cpp": "#5a4634",
}
OTHER_METHOD = "#b8bcc2"


def method_color(label: str) -> str:
    """That of the method which a label begins with, such as `auto@ngram` or `bestfirst 8/32`."""
    known = [name for name in METHOD_COLORS if label.startswith(name)]
    return METHOD_COLORS[max(known, key=len)] if known else OTHER_METHOD


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
