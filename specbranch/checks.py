"""Checks of arguments."""

from __future__ import annotations

import ctypes
import math
from numbers import Integral
from typing import TypeGuard

import numpy as np

_LEAST_SINGLE = 2.0**-126


def require(name: str, wanted: str, value: object, holds: bool) -> None:
    """Raise ValueError naming the argument, what was wanted and what came, unless `holds`."""
    if not holds:
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")


def is_real(value: object) -> TypeGuard[float]:
    """Whether it is a finite number, of a size that a float can have."""
    try:
        return isinstance(value, float | int | np.number) and math.isfinite(value)
    except OverflowError:
        return False


def is_single(value: object) -> TypeGuard[float]:
    """Whether it is a finite number that float32, which ops compute in, holds: none that overflows
    there or falls to nothing."""
    if not is_real(value):
        return False
    single = ctypes.c_float(value).value
    return math.isfinite(single) and (value == 0 or abs(single) >= _LEAST_SINGLE)


def is_integer(value: object, low: int, end: float = math.inf) -> bool:
    """Whether it is an integer from `low` to below `end`."""
    return isinstance(value, int | Integral) and low <= int(value) < end


def require_positive(**arguments: int) -> None:
    """Raise ValueError naming the first argument that is no integer from 1 on."""
    for name, value in arguments.items():
        require(name, "an integer >= 1", value, is_integer(value, 1))


def require_share(**arguments: float) -> None:
    """Raise ValueError naming the first argument that is no number from 0 to 1."""
    for name, value in arguments.items():
        require(name, "a number in [0, 1]", value, is_real(value) and 0 <= value <= 1)
