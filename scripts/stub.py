"""Prints specbranch/_C.pyi as the built extension describes itself; `make stub` writes the file.

The classes of the tree are typed by hand, at its end: they stay as they are.
"""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path

from specbranch import _C

HEAD = """from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

contract: int

"""
STUB = Path(__file__).parents[1] / "specbranch/_C.pyi"
CLASSES = "# The speculation tree of a request"  # how their part begins


def block(doc: str) -> str:
    """A docstring of its own line or lines."""
    end = "\n" if "\n" in doc else ""
    return f'"""{doc}{end}"""\n'


def described(name: str) -> tuple[str, str]:
    """Signature and docstring of a function; pybind11 puts the former into the latter."""
    function = getattr(_C, name)
    if not inspect.isbuiltin(function):
        signature = str(inspect.signature(function)).replace("torch.Tensor", "Tensor")
        return signature, function.__doc__
    signature, _, doc = function.__doc__.partition("\n\n")
    signature = signature.removeprefix(name)
    signature = signature.replace("typing.SupportsInt | typing.SupportsIndex", "int")
    return signature.replace("collections.abc.Sequence", "Sequence"), doc.strip()


def function(name: str) -> str:
    signature, doc = described(name)
    return f"def {name}{signature}:\n{textwrap.indent(block(doc), '    ')}\n"


def stub() -> str:
    _, marker, classes = STUB.read_text().partition(CLASSES)
    functions = [
        name
        for name, value in vars(_C).items()
        if inspect.isroutine(value) and f"def {name}(" not in classes
    ]
    return f"{block(_C.__doc__)}\n{HEAD}{''.join(map(function, functions))}{marker}{classes}"


if __name__ == "__main__":
    print(stub(), end="")
