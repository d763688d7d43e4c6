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

from bench import floors, gpu
from bench.floors import Heads, Work
from specbranch import build_info


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


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    heads: Heads
    layers: int
    vocab: int


MODELS = [
    Model("Llama-3.1-8B", Heads(32, 8, 128), 32, 128_256),
    Model("Qwen2.5-1.5B", Heads(12, 2, 128), 28, 151_936),
    Model("SmolLM2-135M", Heads(9, 3, 64), 30, 49_152),
]
CONTEXTS = [1024, 2048, 4096, 8192, 16384, 32768]
BRANCHES = [1, 8, 32]
BATCHES = [1, 8]
ACCEPTED = 4
"""Tokens that a commit moves, and rows that a walk visits."""


@dataclass(frozen=True, slots=True)
class Case:
    """One op at one shape. call: how `bench.gpu` makes inputs for it."""

    op: str
    model: str
    shape: str
    work: Work
    call: gpu.MakeCall


def attention_cases(model: Model, contexts: Sequence[int]) -> list[Case]:
    return [
        Case(
            "branch_attention",
            model.name,
            f"B {batch}, {rows} branches, context {context}",
            floors.branch_attention(model.heads, batch=batch, context=context, rows=rows),
            gpu.attention(model.heads, batch, context, rows),
        )
        for context in contexts
        for rows in BRANCHES
        for batch in BATCHES
    ]


def cache_cases(model: Model) -> list[Case]:
    return [
        case
        for batch in BATCHES
        for case in (
            Case(
                "append_kv_",
                model.name,
                f"B {batch}, 8 tokens",
                floors.append_kv(model.heads, batch=batch, tokens=8),
                gpu.append(model.heads, batch, 8),
            ),
            Case(
                "compact_kv_",
                model.name,
                f"B {batch}, {ACCEPTED} tokens, {model.layers} layers",
                floors.compact_kv(model.heads, layers=model.layers, batch=batch, moved=ACCEPTED),
                gpu.compact(model.heads, model.layers, batch, ACCEPTED),
            ),
        )
    ]


def vocabulary_cases(model: Model) -> list[Case]:
    rows, vocab = 8, model.vocab
    cases = [
        Case(
            "sample",
            model.name,
            f"{rows} rows",
            floors.sample(rows=rows, vocab=vocab),
            gpu.sample(rows, vocab),
        ),
        Case(
            "draft_topk",
            model.name,
            f"{rows} rows, k 4",
            floors.draft_topk(rows=rows, vocab=vocab, k=4),
            gpu.draft_topk(rows, vocab, 4),
        ),
        Case(
            "sampling_probs",
            model.name,
            f"{rows} rows",
            floors.sampling_probs(rows=rows, vocab=vocab),
            gpu.sampling_probs(rows, vocab),
        ),
    ]
    for batch in BATCHES:
        for coupling in ("greedy", "gumbel", "rejection"):
            work = floors.verify_tree(
                batch=batch,
                nodes=8,
                visited=ACCEPTED,
                vocab=vocab,
                rejection=coupling == "rejection",
            )
            call = gpu.verify_tree(coupling, batch, 8, ACCEPTED, vocab)
            cases.append(
                Case(f"verify_tree, {coupling}", model.name, f"B {batch}, 8 nodes", work, call)
            )
    return cases


def all_cases(contexts: Sequence[int]) -> list[Case]:
    masks = [
        Case(
            "tree_mask",
            "-",
            f"B {batch}, 64 nodes",
            floors.tree_mask(batch=batch, nodes=64),
            gpu.tree_mask(batch, 64),
        )
        for batch in BATCHES
    ]
    return masks + [
        case
        for model in MODELS
        for case in (
            *attention_cases(model, contexts),
            *cache_cases(model),
            *vocabulary_cases(model),
        )
    ]


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
        seconds = gpu.seconds_of(case.call(torch.device("cuda")))
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
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
