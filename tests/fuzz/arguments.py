"""Arguments of an op, changed: right and wrong ones in the neighbourhood of a valid call.

A case is an op's name and numbers. Each number stands for one change of the valid call's
arguments, so that a case can be written down, repeated and varied.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.ops.calls import CALLS, Arguments

INTEGERS = (0, 1, -1, 2, 3, 31, 32, 33, 255, 2**15, 2**31 - 1, -(2**31), 2**31, 2**62, -(2**63))
FLOATS = (0.0, 1.0, -1.0, 0.5, math.nan, math.inf, -math.inf, 1e-45, 3e38, -3e38, 1e308, 1e-7)
TEXTS = ("gumbel", "rejection", "", "\0", "gumbel\0", "é" * 300)
DTYPES = (
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64),
    *(torch.int32, torch.int64, torch.int16, torch.uint8, torch.bool, torch.complex64),
)
LARGEST = 1 << 18
"""Elements of a changed tensor."""


@functools.cache
def valid(name: str) -> Arguments:
    """The call that is changed, with None for every argument that it leaves out."""
    schema = getattr(torch.ops.specbranch, name).default._schema
    given = CALLS[name]()
    return {a.name: given.get(a.name, a.default_value) for a in schema.arguments}


def changed(name: str, seeds: tuple[int, ...]) -> Arguments:
    arguments = dict(valid(name))
    for seed in seeds:
        rng = random.Random(seed)
        rng.choices(CHANGES, WEIGHTS)[0](rng, arguments)
    return arguments


def _resized(t: Tensor, dim: int, size: int) -> Tensor:
    sizes = [*t.shape[:dim], size, *t.shape[dim + 1 :]]
    if math.prod(sizes) > LARGEST:
        return t
    if t.shape[dim] == 0:
        return t.new_zeros(sizes)
    return t.index_select(dim, torch.arange(size) % t.shape[dim])


def _with_entry(rng: random.Random, t: Tensor) -> Tensor:
    """One value changed, or all of them."""
    if t.numel() == 0 or t.is_complex():
        return t
    if t.is_floating_point():
        value, wide = rng.choice(FLOATS), torch.float64
    else:
        limits = torch.iinfo(t.dtype) if t.dtype != torch.bool else torch.iinfo(torch.uint8)
        value, wide = rng.choice([*INTEGERS, *range(9)]), torch.int64
        value = max(limits.min, min(limits.max, value))
    new = t.clone(memory_format=torch.contiguous_format)
    flat = new.view(-1)
    first = rng.randrange(len(flat))
    end = len(flat) if rng.random() < 0.2 else first + 1
    flat[first:end] = torch.tensor(value, dtype=wide).to(t.dtype)
    return new


def _shuffled(rng: random.Random, t: Tensor) -> Tensor:
    order = torch.randperm(t.numel(), generator=torch.Generator().manual_seed(rng.getrandbits(30)))
    return t.reshape(-1)[order].view(t.shape)


def _with_shape(rng: random.Random, t: Tensor) -> Tensor:
    if t.dim() == 0 or rng.random() < 0.2:
        return rng.choice([t[None], t.reshape(-1), t[..., None]])
    dim = rng.randrange(t.dim())
    if rng.random() < 0.2:
        return t.transpose(dim, rng.randrange(t.dim()))
    size = rng.choice([0, 1, t.shape[dim] - 1, t.shape[dim] + 1, 2 * t.shape[dim], 65])
    return _resized(t, dim, max(size, 0))


def _with_strides(rng: random.Random, t: Tensor) -> Tensor:
    """The same values, further apart, in another order or in one place."""
    if t.dim() == 0:
        return t
    dim = rng.randrange(t.dim())
    if rng.random() < 0.2:
        return t[(slice(None),) * dim + (slice(0, 1),)].expand(t.shape) if t.numel() else t
    if rng.random() < 0.4:
        other = rng.randrange(t.dim())
        return t.transpose(dim, other).contiguous().transpose(dim, other)
    gap = rng.choice([1, 3, 8, 16])
    return _resized(t, dim, t.shape[dim] + gap).narrow(dim, 0, t.shape[dim])


def _with_dtype(rng: random.Random, t: Tensor) -> Tensor:
    return (t.real if t.is_complex() else t).to(rng.choice(DTYPES))


def _no_tensor(rng: random.Random, t: Tensor) -> Any:
    return rng.choice([None, 3, 0.5, "text", [1, 2], torch.zeros(()), torch.zeros(0)])


EDITS: tuple[Callable[[random.Random, Tensor], Any], ...] = (
    *(_with_entry, _with_entry, _with_entry, _shuffled),
    *(_with_shape, _with_strides, _with_strides, _with_dtype, _no_tensor),
)


def change_one(rng: random.Random, arguments: Arguments) -> None:
    """One argument, by its kind."""
    name = rng.choice(list(arguments))
    value = arguments[name]
    if isinstance(value, Tensor):
        arguments[name] = rng.choice(EDITS)(rng, value)
    elif isinstance(value, list) and value and all(isinstance(v, Tensor) for v in value):
        edit, first = rng.choice(EDITS), rng.randrange(len(value) + 1)
        arguments[name] = [edit(rng, v) if i >= first else v for i, v in enumerate(value)]
        if rng.random() < 0.2:
            arguments[name] = rng.choice([[], value[:1], value * 2, value * 200])
    elif isinstance(value, str):
        arguments[name] = rng.choice(TEXTS)
    elif isinstance(value, int):
        near = (value + 1, value - 1, 2 * value)
        arguments[name] = rng.choice([*INTEGERS, *(n for n in near if abs(n) < 2**62)])
    elif isinstance(value, float):
        arguments[name] = rng.choice(FLOATS)
    elif value is None:  # most often a workspace
        arguments[name] = torch.zeros(rng.choice([0, 1, 2**10, 2**14]))


def change_size(rng: random.Random, arguments: Arguments) -> None:
    """All sizes that are equal, so that shapes go on fitting."""
    tensors = [v for v in arguments.values() if isinstance(v, Tensor) and v.dim()]
    if not tensors:
        return
    old = rng.choice(rng.choice(tensors).shape)
    new = max(0, rng.choice([0, 1, old - 1, old + 1, 2 * old, 3 * old, 8, 16, 33, 64, 65, 256]))

    def fit(value: Any) -> Any:
        if isinstance(value, list):
            return [fit(v) for v in value]
        if isinstance(value, Tensor):
            for dim, size in enumerate(value.shape):
                value = _resized(value, dim, new) if size == old else value
            return value
        return new if type(value) is int and value == old else value

    arguments.update({name: fit(value) for name, value in arguments.items()})


def change_data(rng: random.Random, arguments: Arguments) -> None:
    """The dtype of floating tensors: all of them, or matrices alone."""
    dtype, least = rng.choice(DTYPES[:3]), rng.choice([0, 2])
    for name, value in arguments.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= least:
            arguments[name] = value.to(dtype)


def swap_arguments(rng: random.Random, arguments: Arguments) -> None:
    """One argument in two places, as one tensor."""
    tensors = [name for name, value in arguments.items() if isinstance(value, Tensor)]
    if tensors:
        arguments[rng.choice(tensors)] = arguments[rng.choice(tensors)]


CHANGES = (change_one, change_size, change_data, swap_arguments)
WEIGHTS = (10, 3, 1, 1)
