"""The roofline plot."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from bench.ops.report import machine
from specbranch.pictures import save_picture

Row = Mapping[str, Any]
ROOF = {"color": "0.4", "linewidth": 1}


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Left: rates of products over arithmetic intensity, under the roofs measured beside them.
    Right: bytes per second over bytes moved, for all ops."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    with_products = [row for row in record["rows"] if row["flops"]]
    if with_products:
        _draw_roofline(left, with_products)
    _draw_bandwidth(right, record["rows"])
    for panel in (left, right):
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.2)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(fontsize=6, frameon=False)
    figure.suptitle(f"SpecBranch ops on {machine(record)}", fontsize=9)
    save_picture(figure, path)


def _draw_roofline(panel: Axes, rows: Sequence[Row]) -> None:
    intensities = [row["flops"] / row["floor_bytes"] for row in rows]
    largest = max(rows, key=lambda row: row["floor_bytes"])
    bandwidth = largest["copy_gb_per_s"]
    product = max(row["product_gflop_per_s"] for row in rows)
    ridge = product / bandwidth
    first, last = min(*intensities, ridge) / 2, max(*intensities, ridge) * 2
    xs = [first, ridge, last]
    panel.plot(
        xs,
        [min(x * bandwidth, product) for x in xs],
        label=f"largest copy, {bandwidth:.3g} GB/s; fastest product, {product:.3g} GFLOP/s",
        **ROOF,
    )
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        xs = [row["flops"] / row["floor_bytes"] for row in own]
        rates = [x * row["gb_per_s"] for x, row in zip(xs, own, strict=True)]
        panel.plot(xs, rates, "o", markersize=4, label=f"branch_attention, {model}")
    panel.set_xlabel("operations per byte that must move")
    panel.set_ylabel("GFLOP/s")


def _draw_bandwidth(panel: Axes, rows: Sequence[Row]) -> None:
    copies = [(row["floor_bytes"], row["copy_gb_per_s"]) for row in rows]
    panel.plot(*zip(*copies, strict=True), "_", color="0.4", label="copy of as many bytes")
    markers = itertools.cycle("osD^v<>PX*hp")
    for op, marker in zip(dict.fromkeys(row["op"] for row in rows), markers, strict=False):
        own = [row for row in rows if row["op"] == op]
        moved, rates = zip(*((row["floor_bytes"], row["gb_per_s"]) for row in own), strict=True)
        panel.plot(moved, rates, marker, markersize=4, label=op)
    panel.set_xlabel("bytes that must move")
    panel.set_ylabel("GB/s")
