"""Texts that come from outside: files of any editor, JSON of any tool."""

from __future__ import annotations

from pathlib import Path


def read_text(name: str, content: bytes) -> str:
    """UTF-8 without the byte order mark that some editors put before it.

    name: of where it is from. Raises ValueError, naming that, for other bytes.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{name}, line {line}: expected UTF-8, got the byte {content[error.start]:#04x}"
        ) from None


def read_text_file(path: str | Path) -> str:
    """Likewise of a file."""
    return read_text(str(path), Path(path).read_bytes())


def valid_unicode(text: str) -> str:
    """The text with halves of surrogate pairs joined where they stand together, and U+FFFD for
    each that stands alone, as for a byte that was no UTF-8 on a command line."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
