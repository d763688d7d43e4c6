from __future__ import annotations

import json
import os
import threading
import time

import pytest
import torch

from specbranch.costs.model import CostModel
from specbranch.lanes import LaneError, ThreadLanes, VirtualLanes
from specbranch.trace import Span, Trace, overlap

two_cores = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="needs two cores to tell the lanes apart"
)


@pytest.fixture
def lanes():
    with ThreadLanes(1, 1) as lanes:
        lanes.begin()
        yield lanes


@pytest.fixture
def virtual():
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    lanes.begin()
    return lanes


def test_a_lane_works_in_order_and_returns_results(lanes):
    order = []
    pending = [lanes.draft.submit("work", lambda i=i: order.append(i) or i) for i in range(20)]
    assert [work.result() for work in pending] == order == list(range(20))


def test_lanes_work_at_the_same_time(lanes):
    both_inside = threading.Barrier(2)
    waiting = [
        lane.submit("meet", lambda: both_inside.wait(10)) for lane in (lanes.draft, lanes.target)
    ]
    assert sorted(work.result() for work in waiting) == [0, 1]


@two_cores
def test_each_lane_keeps_to_its_own_cores_and_threads(lanes):
    def placement() -> tuple[set[int], int]:
        torch.ones(512, 512) @ torch.ones(512, 512)
        return os.sched_getaffinity(0), torch.get_num_threads()

    before = torch.get_num_threads(), os.sched_getaffinity(0)
    draft, target = lanes.draft.run("work", placement), lanes.target.run("work", placement)
    assert draft == (set(lanes.draft.cores), 1)
    assert target == (set(lanes.target.cores), 1)
    assert not draft[0] & target[0]
    assert (torch.get_num_threads(), os.sched_getaffinity(0)) == before


@two_cores
def test_lanes_that_take_turns_keep_their_own_numbers_of_threads():
    """Both threads are there before either has asked torch for anything."""
    turns = ThreadLanes(1, 2)
    try:
        time.sleep(0.2)
        assert turns.target.run("count", torch.get_num_threads) == 2
        assert turns.draft.run("count", torch.get_num_threads) == 1
    finally:
        turns.close()


@two_cores
def test_kernels_of_a_lane_run_on_its_cores_only(lanes):
    """More threads than cores, so that the kernel has to start a worker and inherit the pinning."""

    def started_workers() -> list[set[int]]:
        torch.set_num_threads(2)
        before = os.listdir("/proc/self/task")
        torch.ones(1 << 20).exp_()
        started = set(os.listdir("/proc/self/task")) - set(before)
        return [os.sched_getaffinity(int(task)) for task in started]

    for lane in (lanes.draft, lanes.target):
        assert lane.run("work", started_workers) == [set(lane.cores)]


def test_an_error_says_which_lane_and_what_failed(lanes, virtual):
    def fail() -> None:
        raise MemoryError("no more")

    for lane in (lanes.target, virtual.target):
        pending = lane.submit("prefill", fail)
        with pytest.raises(LaneError, match="target lane, prefill: MemoryError: no more"):
            pending.result()
        assert lane.run("next", lambda: 7) == 7


def test_a_lane_asks_for_cores_that_exist():
    with pytest.raises(ValueError, match="draft_threads: expected 1 to"):
        ThreadLanes(0, 1)
    with pytest.raises(ValueError, match=r"target_threads: expected 1 to .* got 4096"):
        ThreadLanes(1, 4096)


def test_the_virtual_clock_runs_lanes_side_by_side(virtual):
    target = virtual.target.submit("target", lambda: "checked", rows=3)
    steps = 0
    while not target.done():
        virtual.draft.run("draft", lambda: None, rows=1)
        steps += 1
    assert (steps, target.result(), virtual.now()) == (4, "checked", 4.0)
    assert virtual.target.submit("verify", lambda: None).done()


def test_virtual_spans_are_charged_by_rows(tmp_path):
    costs = {"draft": {"1": 1.0, "9": 2.0}, "target": {"1": 8.0}}
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(costs))
    lanes = VirtualLanes(CostModel.parse(f"virtual:{path}"))
    trace = lanes.begin()
    lanes.draft.run("draft", lambda: None, rows=5)
    lanes.target.run("target", lambda: None, rows=64)
    assert trace.spans == [
        Span("draft", "draft", 0.0, 1.5, 5),
        Span("target", "target", 1.5, 9.5, 64),
    ]


@pytest.mark.parametrize(
    "clock",
    ["virtual", "virtual:", "virtual:c=0", "virtual:c=fast", "virtual:/nowhere", "wall:c=1"],
)
def test_a_clock_that_makes_no_sense_is_refused(clock):
    with pytest.raises(ValueError, match="clock: expected"):
        CostModel.parse(clock)


def test_overlap_is_the_share_of_the_drafts_busy_time():
    trace = Trace(
        [
            Span("draft", "draft", 0, 1, 1),
            Span("draft", "draft", 2, 4, 1),
            Span("target", "target", 0.5, 3, 8),
            Span("target", "commit", 3, 9),
        ]
    )
    assert overlap(trace.spans, "draft", "target") == pytest.approx(1.5 / 3)
    assert overlap(trace.spans, "target", "draft") == pytest.approx(1.5 / 2.5)
    assert overlap((), "draft", "target") == 0.0


def test_a_trace_is_saved_as_trace_events(tmp_path):
    Trace([Span("draft", "draft", 0.5, 1.0, 3)]).save(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    (span,) = [event for event in events if event["ph"] == "X"]
    assert (span["name"], span["ts"], span["dur"], span["args"]) == ("draft", 5e5, 5e5, {"rows": 3})
