"""A model's forward captured as CUDA graphs and replayed without Python.

A forward of 32 layers is a few hundred launches, which take the host longer than the GPU needs for
a draft step. A graph is one launch. It reads and writes the same memory each time, and its shapes
are fixed, so there is one for each *bucket* of rows (1, 2, 4, 8, ...), and a forward runs in the
smallest that holds its rows. The rest of a bucket are padding rows: they compute on numbers of
earlier forwards, write no key or value (how many rows are real stands in device memory), and no one
looks at what comes out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from specbranch.models.block_forward import BlockInputs

Outputs = tuple[Tensor, ...]


class Capture(Protocol):
    """Makes work repeatable on the memory that it used."""

    def __call__(self, work: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        """Run `work`; returns what repeats it, and the outputs that each repetition overwrites."""
        ...


class CapturedForward:
    """`forward` by graphs, captured when their bucket is first needed.

    Called like `forward`, with inputs that are the first of `buffers`. What it returns holds until
    the next call.

    forward: from BlockInputs to logits, and perhaps further outputs of a row per new node.
    buffers: BlockInputs of as many rows as a forward can have; all inputs live in them.
    capture: how to capture.

    Where capturing fails, warns once and runs `forward` as it is from then on.
    """

    def __init__(
        self, forward: Callable[..., Outputs], buffers: BlockInputs, capture: Capture
    ) -> None:
        self._forward = forward
        self._buffers = buffers
        self._capture = capture
        self._graphs: dict[int, tuple[Callable[[], None], Outputs]] = {}
        self._capturable = True

    def __call__(self, *inputs: Tensor) -> Outputs:
        """Logits [k, V] and further outputs [T, ...] for `BlockInputs`."""
        wanted = BlockInputs(*inputs)
        rows, logits_rows = wanted.tokens.shape[1], len(wanted.logits_rows)
        graph = self._graph(rows)
        if graph is None:
            return self._forward(*inputs)
        replay, (logits, *others) = graph
        replay()
        return logits[:logits_rows], *(output[:rows] for output in others)

    def _graph(self, n: int) -> tuple[Callable[[], None], Outputs] | None:
        """The graph of the bucket for n rows; None if this forward cannot be captured."""
        rows = bucket(n, self._buffers.tokens.shape[1])
        if rows not in self._graphs and self._capturable:
            inputs = self._buffers.head(len(self._buffers.n_nodes), rows, rows)
            try:
                self._graphs[rows] = self._capture(lambda: self._forward(*inputs))
            except Exception as error:  # the eager forward will raise what is not about capturing
                self._capturable = False
                self._graphs.clear()
                warnings.warn(
                    f"forwards run without CUDA graphs, which is slower: capturing one failed with "
                    f"{type(error).__name__}: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self._graphs.get(rows)


def bucket(n: int, most: int) -> int:
    """The rows of the graph that n rows run in: the next power of two, or `most`."""
    return min(1 << (n - 1).bit_length(), most)


class CudaCapture:
    """Captures on one device, into graphs that share one pool of memory.

    Work is captured on the current stream, the lane's own: its priority goes with the kernels, and
    cuBLAS keeps a workspace for each stream, which two lanes' forwards must not share.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._side_stream: torch.cuda.Stream | None = None

    def __call__(self, work: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        """Runs `work` once to let libraries set themselves up, and then captures it."""
        current, stream = torch.cuda.current_stream(self._device), self._stream()
        graph = torch.cuda.CUDAGraph()
        # Not in inference mode: torch keeps tensors for all graphs of the process, made at the
        # first capture, and could not update them outside.
        with torch.inference_mode(False), torch.no_grad():
            stream.wait_stream(current)
            with torch.cuda.stream(stream):  # puts the current stream back if capturing fails
                work()
                with torch.cuda.graph(
                    graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"
                ):
                    outputs = work()
            current.wait_stream(stream)
        return graph.replay, outputs

    def _stream(self) -> torch.cuda.Stream:
        """The current stream; one of our own where that is the default stream, which cannot be
        captured."""
        current = torch.cuda.current_stream(self._device)
        if current != torch.cuda.default_stream(self._device):
            return current
        if self._side_stream is None:
            self._side_stream = torch.cuda.Stream(self._device)
        return self._side_stream
