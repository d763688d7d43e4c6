from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from specbranch.cli import app
from specbranch.cli.calibrate import costs_json, summary
from specbranch.costs.model import CostModel, LaneCosts, RowCosts
from specbranch.lanes import ThreadLanes
from specbranch.training.pair_timer import ROWS, Measurement, PairTimer, contention
from tests.engine import tiny


@pytest.fixture(scope="module")
def timed():
    with ThreadLanes(1, 1) as lanes:
        timer = PairTimer(tiny.pair(), lanes, context=16, repeats=2)
        measurements = list(timer.measurements())
        assert len(measurements) == len(timer)
        return measurements, timer.latencies()


def test_every_row_count_is_measured_alone_and_contended(timed):
    measurements, latencies = timed
    kinds = {(m.lane, m.rows, m.contended) for m in measurements}
    lanes = ("draft", "target")
    assert kinds == {(lane, rows, c) for lane in lanes for rows in ROWS for c in (True, False)}
    assert all(m.seconds > 0 for m in measurements)
    assert all(0 <= latency < 1 for latency in latencies)


def test_what_is_written_is_a_clock(timed, tmp_path):
    costs = costs_json(*timed)
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(costs))
    clock = CostModel.parse(f"virtual:{path}")
    assert clock.draft.rows(8) == costs["draft"]["8"]
    assert clock.target.contention == costs["contention"]["target"] >= 1
    assert (clock.launch, clock.sync) == timed[1]
    assert summary(costs).startswith("c = ")


def test_contention_is_the_median_slowdown():
    slowdowns = {1: 1.0, 2: 3.0, 4: 2.0}
    measurements = [
        Measurement("draft", rows, contended, 0.5 * (slowdown if contended else 1))
        for rows, slowdown in slowdowns.items()
        for contended in (False, True)
    ]
    assert contention(measurements, "draft") == 2.0


def test_a_measured_model_costs_what_was_measured():
    costs = CostModel(
        "x", LaneCosts(RowCosts((1, 3), (1.0, 2.0))), LaneCosts(RowCosts((1,), (5.0,)))
    )
    assert costs.draft.rows(2) == 1.5


def test_the_command_is_there():
    result = CliRunner().invoke(app, ["calibrate", "--help"])
    assert result.exit_code == 0
    assert "--repeats" in result.output
