"""Workspaces on the simulated device: tickets and scratch that launches leave to each other."""

from __future__ import annotations

from ctypes import Structure

import torch
from torch import Tensor

from tests.simt.device import REDZONE, Device
from tests.simt.params import integers


class WorkspaceNeed(Structure):
    """What a launch wants, as kernels/workspace.hpp has it."""

    _fields_ = integers("scratch_bytes", "num_tickets", "first_scratch")


class Workspace:
    """Memory for launches that want as much as `largest` or less."""

    def __init__(self, device: Device, largest: WorkspaceNeed) -> None:
        self._device = device
        num_floats = largest.first_scratch + -(-largest.scratch_bytes // 4)
        self.memory = torch.full((num_floats + REDZONE,), -1, dtype=torch.int32)  # NaN
        self.memory[: largest.first_scratch] = 0
        device.keep(self.memory)

    def allow(self, need: WorkspaceNeed) -> None:
        """Let a launch use its own part of the memory, and no other."""
        address = self.memory.data_ptr()
        self._device.allow(address, 4 * need.num_tickets, "tickets", writable=True)
        scratch = address + 4 * need.first_scratch
        self._device.allow(scratch, need.scratch_bytes, "scratch", writable=True)

    def tickets(self, need: WorkspaceNeed) -> Tensor:
        return self.memory[: need.first_scratch]
