"""What `gpu_check` measures: `python -m bench.gpu_parts NAME --out FILE.json`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench import floors, gpu, peers
from bench.floors import Work

NODES, VOCAB, LAYERS, MOVED = 8, 128_256, 32, 4
REPEATS = 20


def warm_seconds(call: Callable[[], object]) -> float:
    """Of one call among many in a replayed CUDA graph, its inputs in L2 as far as they fit."""
    if importlib.util.find_spec("triton"):
        from triton.testing import do_bench_cudagraph

        return do_bench_cudagraph(call, rep=50, return_mode="median") / 1e3
    return _replayed_seconds(call)


def _replayed_seconds(call: Callable[[], object]) -> float:
    def repeated() -> None:
        for _ in range(REPEATS):
            call()

    graph = gpu.captured(repeated)
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(30)]
    for start, end in events:
        start.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in events) / REPEATS / 1e3


def ops_part() -> list[dict[str, Any]]:
    """Our ops at the shapes of the targets."""
    bandwidth = gpu.copy_bandwidth()
    cases: list[tuple[str, Work, gpu.MakeCall]] = [
        (
            f"branch_attention, {shape.name}",
            floors.branch_attention(
                peers.HEADS, batch=shape.batch, context=shape.context, rows=shape.rows
            ),
            gpu.attention(peers.HEADS, shape.batch, shape.context, shape.rows),
        )
        for shape in peers.SHAPES
    ]
    cases += [
        (
            f"verify_tree, {coupling}",
            floors.verify_tree(
                batch=1, nodes=NODES, visited=NODES, vocab=VOCAB, rejection=coupling == "rejection"
            ),
            gpu.verify_tree(coupling, 1, NODES, NODES, VOCAB),
        )
        for coupling in ("greedy", "gumbel", "rejection")
    ]
    cases.append(
        (
            "compact_kv_",
            floors.compact_kv(peers.HEADS, layers=LAYERS, batch=1, moved=MOVED),
            gpu.compact(peers.HEADS, LAYERS, 1, MOVED),
        )
    )
    return [_op_row(op, work, make, bandwidth) for op, work, make in cases]


def _op_row(op: str, work: Work, make: gpu.MakeCall, bandwidth: float) -> dict[str, Any]:
    call = make(torch.device("cuda"))
    cold = gpu.seconds_of(call)
    return {
        "op": op,
        "floor_bytes": work.floor_bytes,
        "warm_seconds": warm_seconds(call),
        "cold_seconds": cold,
        "of_copy_bandwidth": work.floor_bytes / cold / bandwidth,
        "copy_bandwidth": bandwidth,
    }


def peers_part() -> dict[str, Any]:
    """Peers at the same shapes; each one that is missing or fails is said to."""
    rows, failed = [], {}
    candidates = [
        (name, module, shape.name, lambda make=make, shape=shape: make(shape))
        for name, (module, make) in peers.ATTENTION.items()
        for shape in peers.SHAPES
    ]
    candidates.append(
        (
            "sgl-kernel, verify_tree_greedy",
            "sgl_kernel",
            "greedy walk",
            lambda: peers.sgl_verify_greedy(NODES, VOCAB),
        )
    )
    for name, module, shape, make in candidates:
        if importlib.util.find_spec(module) is None:
            continue
        try:
            call = make()
            times = {"warm_seconds": warm_seconds(call), "cold_seconds": gpu.seconds_of(call)}
            rows.append({"peer": name, "shape": shape, **times})
        except Exception as error:  # whatever another library raises is its own
            failed[f"{name}, {shape}"] = f"{type(error).__name__}: {error}"
    absent = {name for name, module, _, _ in candidates if not importlib.util.find_spec(module)}
    return {"rows": rows, "failed": failed, "missing": sorted(absent)}


def decoding_part() -> dict[str, Any]:
    from bench.synthetic_decoding import measure

    return measure(torch.device("cuda"))


PARTS: dict[str, Callable[[], Any]] = {
    "ops": ops_part,
    "peers": peers_part,
    "decoding": decoding_part,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.write_text(json.dumps(PARTS[options.part](), indent=1) + "\n")


if __name__ == "__main__":
    main()
