"""Floors and predicted times of all ops: `python -m bench.roofline`.

A prediction is the larger of bytes over peak bandwidth and operations over peak dense bf16 rate: no
kernel can be faster, and launches, latencies and partial results come on top. What is measured is
in `bench.ops`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from bench.floors import Work
from bench.ops.case import Case
from bench.ops.selection import SIZES, select


@dataclass(frozen=True, slots=True)
class Device:
    """bandwidth in bytes/s; flops: dense bf16 operations/s."""

    name: str
    bandwidth: float
    flops: float

    def seconds(self, work: Work) -> float:
        return max(work.floor_bytes / self.bandwidth, work.flops / self.flops)


DEVICES = [
    Device("A100", 2.039e12, 312e12),
    Device("H100", 3.35e12, 989e12),
    Device("H200", 4.8e12, 989e12),
    Device("B200", 8.0e12, 2250e12),
]
SOURCE = (
    "NVIDIA's data sheets of A100 80GB SXM, H100 SXM, H200 SXM and DGX B200 (an eighth of it); "
    "rates without sparsity"
)


def table_of(cases: Sequence[Case]) -> Table:
    table = Table(title="Floors in MB; PREDICTED least times in us, nothing measured")
    for column in ("op", "model", "shape", "MB", "GFLOP", *(device.name for device in DEVICES)):
        table.add_column(column)
    for case in cases:
        megabytes, gigaflop = case.work.floor_bytes / 1e6, case.work.flops / 1e9
        predicted = (f"{device.seconds(case.work) * 1e6:.2f}" for device in DEVICES)
        sizes = f"{megabytes:.3f}", f"{gigaflop:.3f}"
        table.add_row(case.op, case.model, case.shape, *sizes, *predicted)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="default", help="of the list of shapes")
    parser.add_argument("--op", default="", metavar="REGEX", help="ops to predict")
    parser.add_argument("--shape", default="", metavar="REGEX", help="model, shape and dtype")
    options = parser.parse_args(arguments)
    cases = select(options.size, torch.bfloat16, options.op, options.shape)
    console = Console(width=None if Console().is_terminal else 200)
    console.print(table_of(cases))
    console.print(f"Predictions: bytes and operations over peak rates. {SOURCE}.")


if __name__ == "__main__":
    main()
