"""Every kind of bug, once: the harness must see it, whatever the schedule, and say where it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.simt.device import SCHEDULES, KernelError, Schedule, device

SOURCE = Path(__file__).parent / "kernels" / "planted_bugs.cu"
BUGS = {
    "missing_barrier": "race",
    "missing_barrier_before_reuse": "race",
    "missing_warp_barrier": "race",
    "two_writers": "race",
    "missing_fence": "race",
    "wait_too_short": "race",
    "global_read_out_of_bounds": "out of bounds: read of 4 bytes",
    "global_write_out_of_bounds": "out of bounds: write of 4 bytes",
    "shared_out_of_bounds": "out of bounds: write of 4 bytes",
    "write_to_input": "write to constant in",
    "copy_never_waited_for": "returns while cp.async copies are under way",
    "divergent_barrier": "divergent barrier",
    "exit_before_barrier": "barrier|returns while",
    "divergent_shuffle": "deadlock|mask names a lane|returns while",
    "misaligned_vector": "misaligned: read of 16 bytes",
    "wait_for_nobody": "deadlock",
}


def run(kernel: str, schedule: Schedule) -> tuple[torch.Tensor, torch.Tensor]:
    simulated = device("planted_bugs")
    simulated.reset()
    simulated.set_schedule(schedule)
    values = simulated.place(torch.arange(64.0), "in")
    out = simulated.place(torch.zeros(64 + 2 * 64 + 1), "out", writable=True)
    simulated.call(f"run_{kernel}", values, out)
    return values, out[:64]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.order.name)
@pytest.mark.parametrize("kernel", ["correct", "fenced_hand_over"])
def test_no_bug_is_seen_where_none_is(kernel, schedule):
    values, out = run(kernel, schedule)
    assert torch.equal(out, values.flip(0))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.order.name)
@pytest.mark.parametrize("kernel", BUGS)
def test_a_bug_is_seen(kernel, schedule):
    with pytest.raises(KernelError, match=BUGS[kernel]):
        run(kernel, schedule)


def line_of_bug(kernel: str) -> int:
    """The first line after the kernel's name that is marked."""
    lines = SOURCE.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if re.search(rf"\b{kernel}\(", line))
    return next(i for i in range(start, len(lines)) if lines[i].endswith("// bug")) + 1


@pytest.mark.parametrize(
    "kernel",
    [
        "missing_barrier",
        "missing_barrier_before_reuse",
        "global_read_out_of_bounds",
        "shared_out_of_bounds",
        "divergent_barrier",
        "misaligned_vector",
    ],
)
def test_the_line_is_named(kernel):
    with pytest.raises(KernelError, match=rf"planted_bugs\.cu:{line_of_bug(kernel)}\b"):
        run(kernel, Schedule())
