"""The virtual clock's cost model: rows, latencies, and two lanes on one device."""

from __future__ import annotations

import json

import pytest

from specbranch.costs.model import PRESETS, CostModel, LaneCosts, RowCosts
from specbranch.lanes import VirtualLanes
from specbranch.trace import Span


def lanes_with(draft=1.0, target=4.0, *, contention=(1.0, 1.0), launch=0.0, sync=0.0):
    costs = CostModel(
        "test",
        LaneCosts(RowCosts((1,), (draft,)), contention[0]),
        LaneCosts(RowCosts((1,), (target,)), contention[1]),
        launch,
        sync,
    )
    lanes = VirtualLanes(costs)
    return lanes, lanes.begin()


def forward(lane):
    return lane.submit("forward", lambda: None, rows=1)


def test_lanes_on_one_device_slow_each_other_down():
    lanes, trace = lanes_with(contention=(2.0, 1.5))
    target, steps = forward(lanes.target), 0
    while not target.done():
        forward(lanes.draft).result()
        steps += 1
    assert steps == 3
    assert lanes.now() == pytest.approx(6.0)
    assert trace.cost_ratio() == pytest.approx(6.0 / 2.0)


def test_a_lane_is_slowed_only_while_the_other_is_busy():
    lanes, _ = lanes_with(contention=(2.0, 1.5))
    target = forward(lanes.target)
    forward(lanes.draft).result()
    assert lanes.now() == pytest.approx(2.0)
    target.result()
    assert lanes.now() == pytest.approx(2.0 + (4.0 - 2.0 / 1.5))
    forward(lanes.draft).result()
    assert lanes.now() == pytest.approx(2.0 + (4.0 - 2.0 / 1.5) + 1.0)


def test_a_lane_that_becomes_idle_lets_the_other_go_on_at_full_pace():
    lanes, trace = lanes_with(draft=3.0, target=1.0, contention=(2.0, 1.0))
    forward(lanes.target)
    forward(lanes.draft).result()
    assert [(span.lane, span.end) for span in trace.spans] == [
        ("target", 1.0),
        ("draft", pytest.approx(1.0 + 2.5)),
    ]


def test_work_without_rows_contends_with_nothing():
    lanes, _ = lanes_with(contention=(2.0, 2.0))
    target = forward(lanes.target)
    for _ in range(10):
        lanes.draft.run("commit", lambda: None)
    target.result()
    assert lanes.now() == 4.0


def test_latencies_come_before_and_after_a_forward():
    lanes, trace = lanes_with(launch=0.25, sync=0.5)
    forward(lanes.draft).result()
    assert trace.spans == [Span("draft", "forward", 0.25, 1.25, 1)]
    assert lanes.now() == 1.75
    target = forward(lanes.target)
    lanes.draft.run("commit", lambda: None)
    assert lanes.now() == 1.75
    target.result()
    assert lanes.now() == 1.75 + 0.25 + 4.0 + 0.5


def test_launches_hide_behind_work_in_line():
    lanes, trace = lanes_with(launch=0.25)
    forward(lanes.target)
    forward(lanes.target).result()
    assert [span.end for span in trace.spans] == [4.25, 8.25]


def test_draining_waits_for_all_work():
    lanes, trace = lanes_with()
    forward(lanes.target)
    forward(lanes.draft)
    lanes.drain()
    assert (lanes.now(), len(trace.spans)) == (4.0, 2)
    assert lanes.begin().spans == []
    assert lanes.now() == 0.0


def test_rows_beyond_the_measured_ones_cost_as_the_last_did():
    costs = RowCosts((1, 8, 16), (1.0, 2.0, 4.0))
    assert (costs(1), costs(4.5), costs(16), costs(24)) == (1.0, 1.5, 4.0, 6.0)
    assert RowCosts((1, 8), (2.0, 1.5))(64) == 1.5


def test_a_file_of_costs_is_read(tmp_path):
    path = tmp_path / "costs.json"
    rows = {"draft": {"1": 1.0, "8": 1.5}, "target": {"8": 9.0, "1": 8.0}}
    path.write_text(json.dumps(rows | {"launch": 0.1, "contention": {"target": 1.25}}))
    costs = CostModel.parse(f"virtual:{path}")
    assert costs.target == LaneCosts(RowCosts((1, 8), (8.0, 9.0)), 1.25)
    assert (costs.draft.contention, costs.launch, costs.sync) == (1.0, 0.1, 0.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"draft": {}},
        {"target": {"1": 0.0}},
        {"contention": {"draft": 0.5}},
        {"launch": -1},
        {"sync": "fast"},
    ],
)
def test_costs_that_make_no_sense_are_refused(tmp_path, changes):
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"draft": {"1": 1.0}, "target": {"1": 8.0}} | changes))
    with pytest.raises(ValueError, match="clock: expected a JSON file"):
        CostModel.parse(f"virtual:{path}")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_clocks(preset):
    costs = CostModel.parse(f"virtual:{preset}")
    assert costs.target.rows(16) / costs.draft.rows(4) == PRESETS[preset]
