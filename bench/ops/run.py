"""Measuring a case: all of its ways, and the roofs over it: a copy and a product."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from bench import gpu
from bench.floors import Work
from bench.measure import Call, Clock, Product, Timing, alone, copy_of, take_turns
from bench.ops.case import OURS, Case, Way

COPY, PRODUCT = "copy", "matrix product"
CPU_CLOCKS: dict[str, Clock] = {"wall": alone}
LARGE_COPY = 128 << 20
"""Bytes: a smaller copy on a GPU measures its launch."""


@dataclass(frozen=True, slots=True)
class Bench:
    """How to measure. clocks: the first one's times are those that shares are computed from.

    seconds: for each case and clock, after its least rounds. memory: bytes for a case's tensors.
    """

    device: torch.device
    clocks: Mapping[str, Clock]
    seconds: float
    rounds: int
    at_least: int
    memory: int

    @classmethod
    def on(cls, device: torch.device, seconds: float) -> Bench:
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info()
            return cls(device, gpu.clocks(), seconds, 3, 1, int(0.8 * free))
        return cls(device, CPU_CLOCKS, seconds, 100, 5, available_memory() // 4)


def available_memory() -> int:
    """Bytes that can be had without swapping, on Linux."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        sizes = dict(line.split(":") for line in lines)
    return int(sizes["MemAvailable"].split()[0]) * 1024


def absent_from(cases: Sequence[Case], device: torch.device) -> dict[str, str]:
    """Ways that cannot take part here, and why."""
    modules = {c.name: c.module for case in cases for c in case.ways if c.module}
    if device.type != "cuda":
        return dict.fromkeys(modules, "needs a GPU")
    return {
        name: f"{module} is not installed"
        for name, module in modules.items()
        if importlib.util.find_spec(module) is None
    }


@dataclass(slots=True)
class LineUp:
    """Who takes part: calls by name. left_out: who does not, and why."""

    calls: dict[str, Call] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def line_up(case: Case, bench: Bench, absent: Mapping[str, str]) -> LineUp:
    """Make the inputs and every way that fits into memory beside them."""
    found = LineUp()
    inputs = case.inputs(bench.device)
    free = bench.memory - case.memory
    for way in case.ways:
        if way.name in absent:
            continue
        if way.memory > free:
            found.left_out[way.name] = (
                f"needs {way.memory / 1e9:.1f} GB of {free / 1e9:.1f} GB left"
            )
            continue
        try:
            found.calls[way.name] = way.make(inputs)
            free -= way.memory
        except Exception as error:  # whatever another library raises is its own
            _refuse(found, way, error)
    return found


def _refuse(found: LineUp, way: Way, error: Exception) -> None:
    if way.kind == "ours":
        raise error
    found.left_out[way.name] = f"{type(error).__name__}: {error}"


def measure(case: Case, bench: Bench, absent: Mapping[str, str]) -> dict[str, Any]:
    """A row of the results. Raises MemoryError where its inputs are too large."""
    if case.memory > bench.memory:
        raise MemoryError(f"needs {case.memory / 1e9:.1f} GB of {bench.memory / 1e9:.1f} GB")
    found = line_up(case, bench, absent)
    roofs, scales = _roofs(case, bench.device)
    timings = {}
    for name, clock in bench.clocks.items():
        calls = _that_run(found, clock, name)
        timings[name] = take_turns(
            {**calls, **roofs},
            rounds=bench.rounds,
            seconds=bench.seconds,
            at_least=bench.at_least,
            clock=clock,
        )
    main = next(iter(timings.values()))
    kinds = {way.name: way.kind for way in case.ways}
    return {
        "op": case.op,
        "model": case.model,
        "shape": case.shape,
        "params": dict(case.params),
        "dtype": str(case.dtype).removeprefix("torch."),
        "floor_bytes": case.work.floor_bytes,
        "flops": case.work.flops,
        "seconds": {
            clock: {name: asdict(timing) for name, timing in by_name.items()}
            for clock, by_name in timings.items()
        },
        **shares(case.work, main, scales),
        **ratios(main, kinds),
        "peers": [c.name for c in case.ways if c.module and c.name not in absent],
        "disturbed": disturbed(main),
        "left_out": found.left_out,
    }


def release(device: torch.device) -> None:
    """Give memory back between cases."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _roofs(case: Case, device: torch.device) -> tuple[dict[str, Call], dict[str, float]]:
    """The calls, and how much of each is the case's own work."""
    copied = case.work.floor_bytes // 2
    if device.type == "cuda":
        copied = max(copied, LARGE_COPY)
    roofs: dict[str, Call] = {COPY: copy_of(copied, device)}
    scales = {COPY: case.work.floor_bytes / (2 * copied)}
    if case.work.flops:
        product = Product.about(case.work.flops, case.dtype, device)
        roofs[PRODUCT] = product
        scales[PRODUCT] = case.work.flops / product.flops
    return roofs, scales


def _that_run(found: LineUp, clock: Clock, clock_name: str) -> dict[str, Call]:
    """Those that this clock can time: not every call can be held by a CUDA graph."""
    running = {}
    for name, call in found.calls.items():
        try:
            clock(call)
            running[name] = call
        except Exception as error:  # whatever another library raises is its own
            if name == OURS:
                raise
            found.left_out[f"{name} ({clock_name})"] = f"{type(error).__name__}: {error}"
    return running


def shares(
    work: Work, timings: Mapping[str, Timing], scales: Mapping[str, float]
) -> dict[str, float | None]:
    """What ours reaches of the roofs, by medians.

    of_lower_roof: of the slower of copying its bytes and multiplying as much as it does; None
    without products.
    """
    ours = timings[OURS].median
    roofs = {name: timings[name].median * scale for name, scale in scales.items()}
    return {
        "gb_per_s": work.floor_bytes / ours / 1e9,
        "copy_gb_per_s": work.floor_bytes / roofs[COPY] / 1e9,
        "of_copy_bandwidth": roofs[COPY] / ours,
        "product_gflop_per_s": work.flops / roofs[PRODUCT] / 1e9 if PRODUCT in roofs else None,
        "of_lower_roof": max(roofs[COPY], roofs[PRODUCT]) / ours if PRODUCT in roofs else None,
    }


def disturbed(timings: Mapping[str, Timing]) -> list[str]:
    """Whose median says more about what else ran than about the work: it is twice the minimum."""
    return [name for name, timing in timings.items() if timing.median > 2 * timing.min]


def ratios(timings: Mapping[str, Timing], kinds: Mapping[str, str]) -> dict[str, Any]:
    """How many times as fast ours is: as each, as eager torch, as the best library."""
    ours = timings[OURS].median
    speedup = {
        name: timing.median / ours
        for name, timing in timings.items()
        if kinds.get(name) in ("eager", "library")
    }
    libraries = {name: speedup[name] for name in speedup if kinds[name] == "library"}
    best = min(libraries, key=libraries.__getitem__, default=None)
    return {
        "speedup": speedup,
        "over_eager": next((speedup[n] for n in speedup if kinds[n] == "eager"), None),
        "best_library": best,
        "over_best_library": libraries.get(best),
    }
