"""Floors and predicted times of all ops: `python -m bench.roofline [--out FILE.json]`.

A prediction is the larger of bytes over peak bandwidth and operations over peak dense bf16 rate: no
kernel can be faster, and launches, latencies and partial results come on top. Where there is a GPU,
measured times and the measured bandwidth of a copy stand beside it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench import gpu
from bench.floors import Work
from bench.models import MODELS, Model
from bench.ops.attention import attention, tree_mask
from bench.ops.case import Case
from bench.ops.kv import append_kv, compact_kv
from bench.ops.sampling import draft_topk, sample, sampling_probs
from bench.ops.verify import COUPLINGS, verify_tree
from specbranch import build_info
from specbranch.files import write_whole


@dataclass(frozen=True, slots=True)
class Device:
    """bandwidth in bytes/s; flops: dense bf16 operations/s."""

    name: str
    bandwidth: float
    flops: float
    num_multiprocessors: int

    def seconds(self, work: Work) -> float:
        return max(work.floor_bytes / self.bandwidth, work.flops / self.flops)


DEVICES = [
    Device("A100", 2.039e12, 312e12, 108),
    Device("H100", 3.35e12, 989e12, 132),
    Device("H200", 4.8e12, 989e12, 132),
    Device("B200", 8.0e12, 2250e12, 148),
]
SOURCE = (
    "NVIDIA's data sheets of A100 80GB SXM, H100 SXM, H200 SXM and DGX B200 (an eighth of it); "
    "rates without sparsity"
)


DTYPE = torch.bfloat16
CONTEXTS = [1024, 2048, 4096, 8192, 16384, 32768]
BRANCHES = [1, 8, 32]
BATCHES = [1, 8]
ACCEPTED = 4
"""Tokens that a commit moves, and rows that a walk visits."""


def cases_of(model: Model, contexts: Sequence[int]) -> list[Case]:
    return [
        *(
            attention(model, DTYPE, batch, context, rows)
            for context in contexts
            for rows in BRANCHES
            for batch in BATCHES
        ),
        *(append_kv(model, DTYPE, batch, 8) for batch in BATCHES),
        *(compact_kv(model, DTYPE, batch, ACCEPTED) for batch in BATCHES),
        sample(model, DTYPE, 8),
        draft_topk("gumbel", model, DTYPE, 8, 4),
        sampling_probs(model, DTYPE, 8),
        *(
            verify_tree(coupling, model, DTYPE, batch, 8, ACCEPTED)
            for batch in BATCHES
            for coupling in COUPLINGS
        ),
    ]


def all_cases(contexts: Sequence[int]) -> list[Case]:
    masks = [tree_mask(batch, 64) for batch in BATCHES]
    return masks + [case for model in MODELS for case in cases_of(model, contexts)]


def evaluate(case: Case, copy_bandwidth: float | None) -> dict[str, object]:
    """copy_bandwidth: bytes/s, read and written, measured here; None where there is no GPU."""
    row: dict[str, object] = {
        "op": case.op,
        "model": case.model,
        "shape": case.shape,
        "work": {**asdict(case.work), "floor_bytes": case.work.floor_bytes},
        "predicted_seconds": {d.name: d.seconds(case.work) for d in DEVICES},
    }
    if copy_bandwidth:
        seconds = gpu.seconds_of(case.ours(torch.device("cuda")))
        row["measured_seconds"] = seconds
        row["of_copy_bandwidth"] = case.work.floor_bytes / seconds / copy_bandwidth
    return row


def report(rows: list[dict], gpu_name: str | None) -> Table:
    table = Table(
        title="Floors in MB; PREDICTED least times in us" + ("; measured" * bool(gpu_name))
    )
    for column in ("op", "model", "shape", "MB", "GFLOP"):
        table.add_column(column)
    for device in DEVICES:
        table.add_column(f"predicted {device.name}", justify="right")
    if gpu_name:
        table.add_column(f"measured {gpu_name}", justify="right")
        table.add_column("of copy bandwidth", justify="right")
    for row in rows:
        work = row["work"]
        measured = []
        if gpu_name:
            measured = [f"{row['measured_seconds'] * 1e6:.1f}", f"{row['of_copy_bandwidth']:.0%}"]
        table.add_row(
            *(row[key] for key in ("op", "model", "shape")),
            f"{work['floor_bytes'] / 1e6:.3f}",
            f"{work['flops'] / 1e9:.3f}",
            *(f"{seconds * 1e6:.2f}" for seconds in row["predicted_seconds"].values()),
            *measured,
        )
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write all numbers as JSON")
    parser.add_argument("--contexts", type=int, nargs="+", default=CONTEXTS, metavar="TOKENS")
    options = parser.parse_args(arguments)

    name, bandwidth = None, None
    if torch.cuda.is_available():
        name, bandwidth = torch.cuda.get_device_name(), gpu.copy_bandwidth()
    rows = [evaluate(case, bandwidth) for case in all_cases(options.contexts)]
    console = Console(width=None if Console().is_terminal else 200)
    console.print(report(rows, name))
    console.print(f"Predictions: bytes and operations over peak rates. {SOURCE}.")
    console.print(
        f"{name}: a copy moves {bandwidth / 1e9:.0f} GB/s."
        if bandwidth
        else "No GPU here: nothing was measured."
    )
    if options.out:
        record = {
            "build": build_info(),
            "gpu": name,
            "measured_copy_bandwidth": bandwidth,
            "predictions_are": "floors over peak rates, not measurements",
            "source_of_peaks": SOURCE,
            "devices": [asdict(device) for device in DEVICES],
            "results": rows,
        }
        write_whole(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
