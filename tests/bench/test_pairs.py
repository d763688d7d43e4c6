"""The comparison of all methods on recorded texts, on texts of a tiny pair."""

from __future__ import annotations

import json

import pytest

from bench import pairs
from bench.goals import schedule_goals
from bench.methods import Variant
from bench.pairs import Comparison, Setting, settings, speedup, with_ratio
from bench.pairs_report import summarised, write_report
from bench.recordings import Case, Recordings
from specbranch.costs.model import CostModel
from specbranch.sampling import SamplingParams

FREE = Setting("c=4, rows free", 4, CostModel.rows_free("c=4", 4.0), 0.0)
AR, SPS = Variant("ar", "ar"), Variant("sps", "sps", (("gamma", 3),))
CASES = [Case("humaneval", index, 0.0) for index in range(2)]


@pytest.fixture
def comparison(folders, tmp_path, monkeypatch) -> Comparison:
    monkeypatch.setattr(Case, "prompt", lambda case: "ab" * (case.index + 1))
    monkeypatch.setattr(Case, "params", SamplingParams(max_new_tokens=12))
    target = str(folders[0])
    return Comparison(Recordings(target, target, tmp_path))


def test_replays_are_made_once(comparison, monkeypatch):
    figures = comparison.figures(FREE, SPS, CASES)
    assert [case["tokens"] for case in figures] == [12, 12]
    again = Comparison(comparison.recordings)
    monkeypatch.setattr(pairs, "Replayer", None)
    assert again.figures(FREE, SPS, CASES) == figures


def test_what_shapes_a_replay_tells_its_file(comparison):
    dearer = CostModel.rows_free("c=4", 5.0)
    settings_ = [FREE, Setting(FREE.clock, 4, dearer, 0.0), Setting(FREE.clock, 4, FREE.costs, 1.0)]
    others = [SPS, Variant("sps", "sps", (("gamma", 4),)), AR]
    paths = {comparison._path(setting, SPS, CASES) for setting in settings_}
    paths |= {comparison._path(FREE, variant, CASES) for variant in others}
    paths.add(comparison._path(FREE, SPS, CASES[:1]))
    assert len(paths) == len(settings_) + len(others)  # FREE with SPS is in both


def test_a_draft_that_is_the_target_has_the_speedup_of_a_full_chain(comparison):
    figures = {each: comparison.figures(FREE, each, CASES) for each in (AR, SPS)}
    assert speedup(figures[AR], figures[AR]) == 1
    assert speedup(figures[SPS], figures[AR]) == pytest.approx(4 * 4 / (3 + 4))


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


def test_the_report_pools_requests_and_compares_with_goals(comparison, tmp_path):
    methods = [
        {
            "label": label,
            "parameters": each.parameters(),
            "cases": comparison.figures(FREE, each, CASES),
            "swept": {},
        }
        for label, each in (("ar", AR), ("pearl", AR), ("specbranch", SPS))
    ]
    rows = summarised([{**method, "cases": _with_all_sets(method["cases"])} for method in methods])
    assert rows[2]["rolled_back_per_token"] == pytest.approx(
        rows[2]["pooled"]["discarded_main"] / rows[2]["pooled"]["tokens"]
    )
    assert rows[2]["mean_accepted_length"] > rows[0]["mean_accepted_length"] == 1
    verdicts = {verdict.name: verdict for verdict in schedule_goals(rows)}
    found = verdicts["specbranch over pearl"]
    assert (found.wanted, found.met) == (">= 1.05", True)
    assert found.measured == pytest.approx(rows[2]["speedups"]["all"])
    assert verdicts["bestfirst 8/32 over pearl"].met is None
    section = {"clock": FREE.clock, "c": 4, "temperature": 0.0, "methods": methods}
    section["methods"] = [{**m, "cases": _with_all_sets(m["cases"])} for m in methods]
    write_report(tmp_path, {"name": "tiny", "target": "a", "draft": "b"}, [section])
    assert "- specbranch over pearl: wanted >= 1.05" in (tmp_path / "pairs-tiny.md").read_text()
    stored = json.loads((tmp_path / "pairs-tiny.json").read_text())
    assert stored["settings"][0]["methods"][2]["label"] == "specbranch"


def _with_all_sets(cases):
    """The cases as if each set had them."""
    return [
        {**case, "prompts": prompts}
        for prompts in ("humaneval", "gsm8k", "mtbench")
        for case in cases
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "perl"], "invalid choice: 'perl'"),
        (["--prompts", "21"], "expected 1 to 20, got 21"),
        (["--ratios", "1"], "expected an integer >= 2, got 1"),
    ],
)
def test_options_out_of_range_are_named(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["pairs", "--name", "x", *arguments])
    with pytest.raises(SystemExit):
        pairs.main()
    assert message in capsys.readouterr().err
