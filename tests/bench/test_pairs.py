"""The comparison of all methods on recorded texts, on texts of a tiny pair."""

from __future__ import annotations

import json

import pytest

from bench import pairs
from bench.goals import schedule_goals
from bench.methods import Sweep, Variant
from bench.pairs import Setting, compared, draw, report, requests_of, settings
from bench.recordings import SETS, Case, Recordings
from bench.replays import Cells, best, free, replayed, speedups, with_ratio
from specbranch.costs.model import CostModel
from specbranch.sampling import SamplingParams

FREE = Setting("c=4, rows free", 4, free(4), 0.0)
CASES = [Case(prompts, 0, 0.0) for prompts in SETS]


@pytest.fixture
def recordings(folders, tmp_path, monkeypatch) -> Recordings:
    monkeypatch.setattr(Case, "prompt", lambda case: "ab" * (SETS.index(case.prompts) + 1))
    monkeypatch.setattr(Case, "params", SamplingParams(max_new_tokens=12))
    target = str(folders[0])
    return Recordings(target, target, tmp_path)


def test_a_draft_that_is_the_target_has_the_speedup_of_a_full_chain(recordings):
    requests = requests_of(recordings, CASES)
    plain = replayed(Variant("ar", "ar"), FREE.costs, requests)
    assert speedups(plain, FREE.costs) == [1, 1, 1]
    chains = replayed(Variant("sps", "sps", (("gamma", 3),)), FREE.costs, requests)
    assert speedups(chains, FREE.costs) == pytest.approx([4 * 4 / (3 + 4)] * 3)
    assert best(Sweep("sps", "sps", {"gamma": (1, 3)}), FREE.costs, requests).options == (
        ("gamma", 3),
    )


def test_measured_rows_keep_their_growth_at_any_ratio(tmp_path):
    costs = {"draft": {"1": 0.01, "4": 0.02}, "target": {"1": 0.05, "8": 0.1}}
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(costs))
    model = with_ratio(CostModel.parse(f"virtual:{path}"), 8)
    assert [model.draft.rows(rows) for rows in (1, 4)] == pytest.approx([1, 2])
    assert [model.target.rows(rows) for rows in (1, 8)] == pytest.approx([8, 16])
    clocks = [setting.clock for setting in settings(path, (8, 15), (0.0,))]
    assert clocks == [
        "c=8, rows free",
        "c=8, rows as measured",
        "c=15, rows free",
        "c=15, rows as measured",
    ]


def test_the_report_compares_with_goals(recordings):
    methods = [
        compared(recordings, FREE, Sweep(label, *sweep), CASES[:1], CASES)
        for label, sweep in (
            ("pearl", ("sps", {"gamma": (1,)})),
            ("specbranch", ("sps", {"gamma": (1, 3)})),
        )
    ]
    assert methods[1]["by_set"] == pytest.approx(dict.fromkeys(SETS, methods[1]["speedup"]))
    verdicts = {verdict.name: verdict for verdict in schedule_goals(methods)}
    found = verdicts["specbranch over pearl"]
    assert (found.wanted, found.met) == (">= 1.05", True)
    assert found.measured == pytest.approx(methods[1]["speedup"] / methods[0]["speedup"])
    assert verdicts["bestfirst 8/32 over pearl"].met is None
    page = report("Pair: tiny", "Target a, draft b", {str(FREE): methods})
    assert "- specbranch over pearl: wanted >= 1.05" in page
    assert "| specbranch | gamma 3 | 2.29x |" in page
    (panel, _) = draw("tiny", {str(FREE): methods}).axes
    assert [bar.get_width() for bar in panel.patches] == [each["speedup"] for each in methods]


def test_cells_are_computed_once_for_the_same_code(tmp_path, monkeypatch):
    path = tmp_path / "cells.json"
    assert Cells(path).cell("a", lambda: {"speedup": 2.0}) == {"speedup": 2.0}
    assert Cells(path).cell("a", pytest.fail) == {"speedup": 2.0}
    monkeypatch.setattr("bench.replays.commit", lambda: "another")
    assert Cells(path).cell("a", lambda: {"speedup": 3.0}) == {"speedup": 3.0}


def test_options_out_of_range_are_named(capsys):
    with pytest.raises(SystemExit):
        pairs.main(["--name", "x", "--prompts", "21"])
    assert "expected 1 to 20, got 21" in capsys.readouterr().err
