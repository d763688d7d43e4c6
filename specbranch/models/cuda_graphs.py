"""A model's forward captured as CUDA graphs and replayed without Python.

A forward of 32 layers is a few hundred launches, which take the host longer than the GPU needs for
a draft step. A graph is one launch. It reads and writes the same memory each time, and its shapes
are fixed, so there is one for each *bucket* of rows (1, 2, 4, 8, ...), and a forward runs in the
smallest that holds its rows. The rest of a bucket are padding rows: they compute on token 0 at
position 0, write no key or value (how many rows are real stands in device memory), and no one looks
at what comes out.
"""

from __future__ import annotations

import threading
import warnings
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from specbranch.models.block_forward import BlockInputs, Forward

MOST_ROWS = 256  # of a graph: from here on the GPU takes longer than the host

Outputs = tuple[Tensor, ...]


class Capture(Protocol):
    """Makes work repeatable on the memory that it used."""

    def __call__(self, work: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        """Run `work`; returns what repeats it, and the outputs that each repetition overwrites."""
        ...


class CapturedForward:
    """`forward` by graphs, all captured at once, the largest first: smaller ones then find room in
    its memory.

    Called like `forward`, with inputs that are the first of `buffers`. What it returns holds until
    the next call. A forward of more rows than the largest graph has runs as it is.

    buffers: BlockInputs of as many rows as a forward can have; all inputs live in them, and at
        first none of their rows is real.
    capture: how to capture.

    Warns of buckets that cannot be captured; their forwards run in the next larger one, or as they
    are.
    """

    def __init__(self, forward: Forward, buffers: BlockInputs, capture: Capture) -> None:
        self._forward = forward
        self._graphs: dict[int, tuple[Callable[[], None], Outputs]] = {}
        failed: dict[int, BaseException] = {}
        for rows in buckets(min(buffers.tokens.shape[1], MOST_ROWS)):
            inputs = buffers.head(len(buffers.n_nodes), rows, rows)
            try:
                self._graphs[rows] = capture(partial(forward, *inputs))
            except Exception as error:  # the eager forward will raise what is not about capturing
                failed[rows] = first_cause(error)
        self._sizes = sorted(self._graphs)
        if failed:
            cause = next(iter(failed.values()))
            warnings.warn(
                f"no CUDA graphs, which is slower, for forwards of {', '.join(map(str, failed))} "
                f"rows: capturing failed with {type(cause).__name__}: {cause}",
                RuntimeWarning,
                stacklevel=2,
            )

    def __call__(self, *inputs: Tensor) -> Outputs:
        """See Forward."""
        wanted = BlockInputs(*inputs)
        rows, logits_rows = wanted.tokens.shape[1], len(wanted.logits_rows)
        place = bisect_left(self._sizes, rows)
        if place == len(self._sizes):
            return self._forward(*inputs)
        replay, (logits, *others) = self._graphs[self._sizes[place]]
        replay()
        return logits[:logits_rows], *(output[:rows] for output in others)

    def read(self, tokens: Sequence[int], block_table: Tensor, context_len: int) -> None:
        """See Forward."""
        self._forward.read(tokens, block_table, context_len)


def buckets(most: int) -> list[int]:
    """The rows of graphs for up to `most` rows: that, and below it powers of two."""
    return [most, *(1 << n for n in reversed(range((most - 1).bit_length())))]


def first_cause(error: BaseException) -> BaseException:
    """What failed first: a capture that is broken off raises an error of its own about that."""
    while error.__context__ is not None:
        error = error.__context__
    return error


_capturing = threading.Lock()  # a capture forbids much to the rest of the process


class CudaCapture:
    """Captures on one device, into graphs that share one pool of memory; one at a time in a
    process.

    Work is captured on the current stream, the lane's own: its priority goes with the kernels, and
    cuBLAS keeps a workspace for each stream, which two lanes' forwards must not share. That of a
    capture lies in the graphs' pool and nowhere else: torch drops a stream's workspace as soon as
    any graph that was captured there goes, be it another engine's.
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
        with _capturing, torch.inference_mode(False), torch.no_grad():
            stream.wait_stream(current)
            with torch.cuda.stream(stream):  # puts the current stream back if capturing fails
                work()
                _forget_workspaces()
                with torch.cuda.graph(
                    graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"
                ):
                    outputs = work()
                _forget_workspaces()
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


def _forget_workspaces() -> None:
    """Let cuBLAS take a workspace anew where it is next called."""
    torch._C._cuda_clearCublasWorkspaces()
