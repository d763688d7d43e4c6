"""A GPU, and the time that a replayed graph takes on it, with and without its L2 cache."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from bench.measure import Call, Clock

FLUSH = 256 << 20
"""Bytes written before each timed call: more than any L2 holds."""


def captured(call: Call) -> torch.cuda.CUDAGraph:
    """A graph of one call, which runs once before, so that libraries are set up."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph


def _timed(call: Call, before: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of each of `rounds` calls, `before` left out."""
    events = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before()
        start.record()
        call()
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1e3 for start, end in events]


def graph_cold(call: Call, rounds: int = 20) -> list[float]:
    """In a replayed CUDA graph, with nothing of it in L2."""
    flushed = torch.empty(FLUSH, dtype=torch.uint8, device="cuda")
    return _timed(captured(call).replay, flushed.zero_, rounds)


def graph_warm(call: Call) -> list[float]:
    """One among many in a replayed CUDA graph, its inputs in L2 as far as they fit."""
    from triton.testing import do_bench_cudagraph

    return [ms / 1e3 for ms in do_bench_cudagraph(call, rep=5, return_mode="all")]


GRAPH_COLD, GRAPH_WARM = "graph, cold L2", "graph, warm L2"


def clocks() -> dict[str, Clock]:
    """By name; without triton one of them."""
    found: dict[str, Clock] = {GRAPH_COLD: graph_cold}
    if importlib.util.find_spec("triton"):
        found[GRAPH_WARM] = graph_warm
    return found


def build_environment() -> dict[str, str]:
    """For a build with kernels for this GPU, or none: where nvcc is not found it fails."""
    found = {"TORCH_CUDA_ARCH_LIST": arch(), "SPECBRANCH_CUDA": "1"}
    usual = Path("/usr/local/cuda")
    if not (shutil.which("nvcc") or "CUDA_HOME" in os.environ) and usual.exists():
        found["CUDA_HOME"] = str(usual)
    return found


def arch() -> str:
    """Compute capability, empty without a GPU."""
    if not torch.cuda.is_available():
        return ""
    return ".".join(map(str, torch.cuda.get_device_capability()))
