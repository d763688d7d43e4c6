"""The simulated device as Python sees it: memory, schedules, launches and their traffic."""

from __future__ import annotations

import ctypes
import functools
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tests.simt import build

REDZONE = 256
"""Bytes before and behind every buffer that belong to nobody."""


class Order(IntEnum):
    """In which order the threads of a block run on, whenever they may."""

    FORWARD = 0
    REVERSE = 1
    RANDOM = 2
    WARP_GREEDY = 3


@dataclass(frozen=True)
class Schedule:
    """Everything that CUDA leaves open."""

    order: Order = Order.FORWARD
    seed: int = 0
    resident_blocks: int = 1
    shuffle_blocks: bool = False
    late_copies: bool = True
    shared_limit: int = 99 << 10


SCHEDULES = [
    Schedule(),
    Schedule(Order.REVERSE, resident_blocks=2, late_copies=False),
    Schedule(Order.RANDOM, seed=1, resident_blocks=3, shuffle_blocks=True),
    Schedule(Order.WARP_GREEDY, seed=2, resident_blocks=2, shuffle_blocks=True),
]


class Transactions(NamedTuple):
    """Of a launch: instructions of warps, what memory did for them, and the least it had to do.

    Global memory moves sectors of 32 bytes, shared memory passes over its 32 banks.
    """

    requests: int
    transactions: int
    ideal: int

    @property
    def excess(self) -> float:
        return self.transactions / self.ideal if self.ideal else 1.0


class Traffic(NamedTuple):
    global_reads: Transactions
    global_writes: Transactions
    shared_reads: Transactions
    shared_writes: Transactions


class KernelError(Exception):
    """What a kernel did wrong, where."""


class Device:
    """One library of kernels. Memory that was placed may be used until reset()."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._library = ctypes.CDLL(str(path))
        self._library.simt_message.restype = ctypes.c_char_p
        if build.PTX_ARCH:
            self._library.simt_ptx.restype = ctypes.c_char_p
        self._buffers: list[Tensor] = []

    def reset(self) -> None:
        self._library.simt_clear_buffers()
        self._buffers.clear()

    def place(self, values: Tensor, name: str, *, writable: bool = False) -> Tensor:
        """The same values with the same strides in memory that kernels may use.

        What lies between strided rows and around the tensor is NaN; with a stride, kernels may
        touch it, as they may on a device.
        """
        item = values.element_size()
        span = sum((n - 1) * s for n, s in zip(values.shape, values.stride(), strict=True)) + 1
        size = span * item if values.numel() else 0
        memory = torch.full((size + 4 * REDZONE,), 0xFF, dtype=torch.uint8)
        start = -memory.data_ptr() % REDZONE + REDZONE
        start += values.storage_offset() * item % 16
        self._buffers.append(memory)
        self.allow(memory.data_ptr() + start, size, name, writable=writable)
        storage = memory[start : start + max(size, item)].view(values.dtype)
        return storage.as_strided(values.shape, values.stride()).copy_(values)

    def keep(self, memory: Tensor) -> None:
        """Hold memory that kernels may use: nothing else shall come to lie there."""
        self._buffers.append(memory)

    def allow(self, address: int, num_bytes: int, name: str, *, writable: bool) -> None:
        """Let kernels use memory."""
        self._library.simt_add_buffer(
            ctypes.c_void_p(address),
            ctypes.c_size_t(num_bytes),
            name.encode(),
            ctypes.c_int(writable),
        )

    def set_schedule(self, schedule: Schedule) -> None:
        values = [getattr(schedule, f.name) for f in fields(schedule)]
        self._library.simt_set_schedule(*map(int, values[:-1]), ctypes.c_long(values[-1]))

    def call(
        self, function: str, *arguments: Tensor | int | bytes | ctypes.Structure | None
    ) -> None:
        """Runs kernels; raises KernelError."""
        if self._library[function](*map(_c_argument, arguments)) != 0:
            message = self._library.simt_message().decode()
            raise KernelError(re.sub("<0x[0-9a-f]+>", lambda pc: self._line(pc[0]), message))

    def launch(self, op: str, params: ctypes.Structure, *more: Tensor | ctypes.Structure) -> None:
        """Runs a launcher of csrc on its params, and what it takes besides."""
        size = self._library[f"{op}_params_bytes"]()
        assert size == ctypes.sizeof(params), f"{op}: params of {size} bytes in C++"
        self.call(op, params, *more)

    @contextmanager
    def counting(self, traffic: list[Traffic]) -> Iterator[None]:
        """Appends the traffic of the launches inside."""
        self._library.simt_count_traffic(1)
        try:
            yield
        finally:
            self._library.simt_count_traffic(0)
            numbers = (ctypes.c_long * 12)()
            self._library.simt_take_traffic(numbers)
            traffic.append(Traffic(*(Transactions(*numbers[i : i + 3]) for i in (0, 3, 6, 9))))

    def ptx(self, kernel: str) -> str:
        """The PTX of the module of the kernel that has this in its name."""
        return self._library.simt_ptx(kernel.encode()).decode()

    @contextmanager
    def running_ptx(self, kernel: str, text: str) -> Iterator[None]:
        """Launches of the kernel inside run other PTX than its own."""
        self.call("simt_replace_ptx", kernel.encode(), text.encode())
        try:
            yield
        finally:
            self.call("simt_replace_ptx", kernel.encode(), None)

    def _line(self, offset: str) -> str:
        """File and line of an instruction, the caller's if it is in the harness."""
        command = ["addr2line", "-i", "-e", self._path, offset.strip("<>")]
        process = subprocess.run(command, capture_output=True, text=True, check=True)
        lines = process.stdout.split()
        outside = [line for line in lines if "/harness/" not in line]
        return (outside or lines)[0]


def _c_argument(argument: Tensor | int | bytes | ctypes.Structure | None) -> object:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, ctypes.Structure):
        return ctypes.byref(argument)
    return argument


@functools.cache
def device(name: str) -> Device:
    """The device with the kernels of one family."""
    return Device(build.library(name))
