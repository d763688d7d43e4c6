"""What tensors a GGUF file holds, each read when it is wanted.

The reader of the package gguf makes an object of every word of the vocabulary, which takes seconds
and more memory than a small model's weights.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

_VERSIONS = (2, 3)
_ALIGNMENT = 32  # where the file does not say
_STRING, _ARRAY = 8, 9
_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a file. shape: as torch has it."""

    path: Path
    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int

    def read(self) -> np.ndarray:
        """Its blocks, uint8 [..., bytes of a row]."""
        block, size = GGML_QUANT_SIZES[self.kind]
        shape = (*self.shape[:-1], self.shape[-1] // block * size)
        data = np.fromfile(self.path, np.uint8, math.prod(shape), offset=self.offset)
        return data.reshape(shape)


def read_header(path: Path) -> tuple[str, list[StoredTensor]]:
    """The architecture that a file names, and its tensors.

    Raises ValueError for a file that is no GGUF of version 2 or 3.
    """
    with open(path, "rb") as file:
        magic, version = file.read(4), _number(file, "I")
        if magic != b"GGUF" or version not in _VERSIONS:
            raise ValueError(f"{path}: expected a GGUF file of version 2 or 3, got another file")
        n_tensors, n_fields = _number(file, "Q"), _number(file, "Q")
        fields = {_string(file): _value(file, _number(file, "I")) for _ in range(n_fields)}
        table = [_entry(file) for _ in range(n_tensors)]
        alignment = int(fields.get("general.alignment") or _ALIGNMENT)
        start = -(-file.tell() // alignment) * alignment
    tensors = [
        StoredTensor(path, name, kind, shape, start + offset) for name, shape, kind, offset in table
    ]
    return str(fields["general.architecture"]), tensors


def _entry(file: BinaryIO) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
    name = _string(file)
    reversed_shape = [_number(file, "Q") for _ in range(_number(file, "I"))]
    return (
        name,
        tuple(reversed_shape[::-1]),
        GGMLQuantizationType(_number(file, "I")),
        _number(file, "Q"),
    )


def _number(file: BinaryIO, form: str) -> int:
    size = struct.calcsize("<" + form)
    return int(struct.unpack("<" + form, file.read(size))[0])


def _string(file: BinaryIO) -> str:
    return file.read(_number(file, "Q")).decode("utf-8", errors="replace")


def _value(file: BinaryIO, kind: int) -> str | int | None:
    """A field's value; an array is passed over."""
    if kind == _STRING:
        return _string(file)
    if kind in _NUMBERS:
        return _number(file, _NUMBERS[kind])
    if kind != _ARRAY:
        raise ValueError(f"{file.name}: expected fields of a GGUF, got one of type {kind}")
    item, count = _number(file, "I"), _number(file, "Q")
    if item in _NUMBERS:
        file.seek(count * struct.calcsize("<" + _NUMBERS[item]), 1)
    else:
        for _ in range(count):
            _value(file, item)
    return None
