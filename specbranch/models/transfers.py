"""Numbers between the host and a model's device: one copy each way, none where they share memory.

On a GPU the host's side is pinned, so a copy is queued on the current stream like a kernel and the
host goes on. In a round the host waits for a stream in a `Download`, and in H-RAD once besides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Layout = list[tuple[str, str, tuple[int, ...]]]

VIEWS = 256  # of fixed memory, kept because making them anew takes the host some 10 us a forward
RING = 16  # pinned buffers of an upload: as many forwards can be queued without a wait


class Upload(ABC):
    """Numbers that the host writes and the device reads.

    tensor: [size] on the device, at the same address for good.
    """

    tensor: Tensor

    @abstractmethod
    def values(self) -> np.ndarray[Any, Any]:
        """Host memory [size] to fill next. It holds numbers of some earlier filling."""

    @abstractmethod
    def send(self) -> None:
        """Copy what was filled to `tensor`, behind what the current stream was given so far."""


class Download(ABC):
    """Numbers that the device writes and the host reads.

    tensor: [size] on the device, at the same address for good.
    """

    tensor: Tensor

    @abstractmethod
    def fetch(self) -> np.ndarray[Any, Any]:
        """`tensor` on the host, valid until the next fetch. Waits for the current stream."""


def sent(numbers: Sequence[int] | np.ndarray[Any, Any], device: torch.device) -> Tensor:
    """int64 [n], or an array as it is, on a device, without a wait for it: for what is sent so
    seldom that it needs no memory of its own."""
    dtype = None if isinstance(numbers, np.ndarray) else torch.int64
    values = torch.tensor(numbers, dtype=dtype, pin_memory=device.type == "cuda")
    return values.to(device, non_blocking=True)


def upload(size: int, dtype: torch.dtype, device: torch.device) -> Upload:
    """An upload of `size` numbers, zero to begin with."""
    kind = PinnedUpload if device.type == "cuda" else SharedUpload
    return kind(size, dtype, device)


def download(size: int, dtype: torch.dtype, device: torch.device) -> Download:
    """A download of `size` numbers."""
    kind = PinnedDownload if device.type == "cuda" else SharedDownload
    return kind(size, dtype, device)


class SharedUpload(Upload):
    """Host and device are one."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.tensor = torch.zeros(size, dtype=dtype, device=device)
        self._values = self.tensor.numpy()

    def values(self) -> np.ndarray[Any, Any]:
        return self._values

    def send(self) -> None:
        """The device sees what was filled."""


class SharedDownload(Download):
    """Host and device are one."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.tensor = torch.zeros(size, dtype=dtype, device=device)
        self._values = self.tensor.numpy()

    def fetch(self) -> np.ndarray[Any, Any]:
        return self._values


class PinnedUpload(Upload):
    """A ring of pinned buffers, each filled again only after its last copy has ended."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.tensor = torch.zeros(size, dtype=dtype, device=device)
        self._hosts = [_pinned(size, dtype) for _ in range(RING)]
        self._copied = [torch.cuda.Event() for _ in range(RING)]
        self._next = 0

    def values(self) -> np.ndarray[Any, Any]:
        self._copied[self._next].synchronize()  # at once for an event that was never recorded
        return self._hosts[self._next].numpy()

    def send(self) -> None:
        self.tensor.copy_(self._hosts[self._next], non_blocking=True)
        self._copied[self._next].record(torch.cuda.current_stream(self.tensor.device))
        self._next = (self._next + 1) % RING


class PinnedDownload(Download):
    """One pinned buffer, and the event that says when it is full."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.tensor = torch.zeros(size, dtype=dtype, device=device)
        self._host = _pinned(size, dtype)
        self._copied = torch.cuda.Event()

    def fetch(self) -> np.ndarray[Any, Any]:
        self._host.copy_(self.tensor, non_blocking=True)
        self._copied.record(torch.cuda.current_stream(self.tensor.device))
        self._copied.synchronize()
        return self._host.numpy()


class UploadRecord:
    """Named fields that the host writes and the device reads, sent in one copy.

    layout: a structured dtype; larger items first, so that all are aligned.
    fields: the device's tensor of each name, at the same address for good.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self._layout = np.dtype(layout)
        self._upload = upload(self._layout.itemsize, torch.uint8, device)
        self.fields = _fields(self._layout, self._upload.tensor)
        self.send = self._upload.send

    def host(self) -> np.void:
        """The record to fill next. It holds numbers of some earlier filling."""
        record: np.void = self._upload.values().view(self._layout)[0]
        return record


class DownloadRecord:
    """Named fields that the device writes and the host reads; see UploadRecord."""

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self._layout = np.dtype(layout)
        self._download = download(self._layout.itemsize, torch.uint8, device)
        self.fields = _fields(self._layout, self._download.tensor)

    def fetch(self) -> np.void:
        """The record on the host, valid until the next fetch. Waits for the current stream."""
        record: np.void = self._download.fetch().view(self._layout)[0]
        return record


def _fields(layout: np.dtype[Any], memory: Tensor) -> dict[str, Tensor]:
    """The part of `memory`, uint8 [itemsize], that each field is."""
    tensors = {}
    for name, (dtype, offset, *_) in (layout.fields or {}).items():
        item = torch.from_numpy(np.empty(0, dtype.base)).dtype
        part = memory[offset : offset + dtype.itemsize]
        tensors[name] = part.view(item).view(dtype.shape)
    return tensors


def _pinned(size: int, dtype: torch.dtype) -> Tensor:
    return torch.zeros(size, dtype=dtype, pin_memory=True)
