"""What the CUDA kernels are to reach on an H100, and whether measurements say that they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

US = 1e-6
PEER_SHAPES = {"throughput": 1.0, "verification": 1.3}
"""How many times as fast as the best peer, by shape of the attention."""
LATENCIES = {
    "verify_tree, greedy": 10 * US,
    "verify_tree, gumbel": 15 * US,
    "verify_tree, rejection": 20 * US,
    "compact_kv_": 6 * US,
}
"""Seconds of GPU time in a replayed graph."""
OF_COPY_BANDWIDTH = 0.8


@dataclass(frozen=True, slots=True)
class Target:
    """One goal. measured is None, and so is met, where nothing was measured."""

    name: str
    wanted: str
    measured: float | None
    met: bool | None


def targets(ops: Sequence[Mapping[str, Any]], peers: Sequence[Mapping[str, Any]]) -> list[Target]:
    """ops: rows of the part `ops`. peers: rows of the part `peers`."""
    by_op = {row["op"]: row for row in ops}
    share = by_op.get("branch_attention, throughput", {}).get("of_copy_bandwidth")
    found = [
        Target(
            "branch_attention, context 8192, batch 8, 8 branches: share of copy bandwidth",
            f">= {OF_COPY_BANDWIDTH}",
            share,
            None if share is None else share >= OF_COPY_BANDWIDTH,
        )
    ]
    for shape, least in PEER_SHAPES.items():
        speedup = _over_best_peer(shape, by_op, peers)
        found.append(
            Target(
                f"branch_attention, {shape} shape: speed over the best peer",
                f">= {least}",
                speedup,
                None if speedup is None else speedup >= least,
            )
        )
    for op, most in LATENCIES.items():
        seconds = by_op.get(op, {}).get("warm_seconds")
        found.append(
            Target(
                f"{op}: us in a replayed graph",
                f"<= {most / US:.0f}",
                None if seconds is None else seconds / US,
                None if seconds is None else seconds <= most,
            )
        )
    return found


def as_rows(found: Sequence[Target]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(target) for target in found]


def _over_best_peer(
    shape: str, ops: Mapping[str, Mapping[str, Any]], peers: Sequence[Mapping[str, Any]]
) -> float | None:
    ours = ops.get(f"branch_attention, {shape}", {}).get("warm_seconds")
    theirs = [row["warm_seconds"] for row in peers if row["shape"] == shape]
    return min(theirs) / ours if ours and theirs else None
