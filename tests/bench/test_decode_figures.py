"""Runs to figures, against sums done by hand; the run file's own rules."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bench.decoding import pictures
from bench.decoding.figures import tabulate
from bench.decoding.records import Key, RunFile, key_of
from bench.decoding.report import Report
from specbranch.stats import Stats


def record(contender: str, category: str, repeat: int, tokens: int, wall_s: float, **more: Any):
    stats = Stats(tokens=tokens, target_forwards=more.pop("forwards", tokens))
    return {
        **Key(contender, category, "q", 0, repeat)._asdict(),
        "tokens": tokens,
        "wall_s": wall_s,
        "first_token_s": 0.5,
        "identical_to_ar": True,
        "divergence": None,
        "stats": asdict(stats),
        **more,
    }


RUNS = [
    record("ar", "code", 0, 10, 2.0),  # 5 tok/s
    record("ar", "math", 0, 20, 2.0),  # 10 tok/s
    record("ar", "code", 1, 10, 1.0),
    record("ar", "math", 1, 20, 3.0),
    record("sps", "code", 0, 10, 1.0, forwards=4, first_token_s=0.1),
    record("sps", "math", 0, 20, 2.0, forwards=6, identical_to_ar=False),
    record("sps", "code", 1, 10, 2.0, forwards=5, first_token_s=0.3),
]


def test_figures_equal_sums_done_by_hand():
    table = tabulate(RUNS, ["ar", "sps", "pearl"])
    assert list(table) == ["ar", "sps"]
    assert list(table["sps"]) == ["code", "math", "overall"]
    overall = table["sps"]["overall"]
    # The first repetition: 30 tokens in 3 s against 4 s. The second has one run, 2 s against 1 s.
    assert overall.speedups == pytest.approx((4 / 3, 0.5))
    assert overall.speedup == pytest.approx((4 / 3 + 0.5) / 2)
    assert (overall.runs, overall.wanted, overall.tokens) == (3, 4, 40)
    assert overall.tokens_per_s == pytest.approx(40 / 5)
    assert overall.stats.mean_accepted_length == pytest.approx(40 / 15)
    assert overall.first_token_s == 0.3
    assert (overall.identical, overall.compared) == (2, 3)
    assert table["sps"]["code"].speedups == pytest.approx((2.0, 0.5))
    assert table["sps"]["math"].speedups == pytest.approx((1.0,))
    assert (table["sps"]["math"].runs, table["sps"]["math"].wanted) == (1, 2)
    assert table["ar"]["overall"].speedups == (1.0, 1.0)


def test_a_run_without_the_baselines_is_an_error():
    with pytest.raises(ValueError, match=r"a run of ar for each, got none for .*'code'"):
        tabulate(RUNS[1:], ["ar", "sps"])


def test_texts_equal_in_law_only_are_not_compared():
    runs = [RUNS[0], record("assisted", "code", 0, 5, 1.0, identical_to_ar=None)]
    figures = tabulate(runs, ["ar", "assisted"])["assisted"]["overall"]
    assert (figures.compared, figures.identical) == (0, 0)
    assert figures.speedup == pytest.approx(1.0)


def test_goals_take_the_better_branching_method():
    runs = [
        record("ar", "code", 0, 10, 1.0),
        record("specbranch", "code", 0, 10, 0.5),
        record("bestfirst", "code", 0, 10, 0.4),
        record("transformers", "code", 0, 10, 2.0),
        record("assisted", "code", 0, 10, 0.5),
    ]
    names = [run["contender"] for run in runs]
    found = Report({}, {}, tabulate(runs, names), runs).verdicts()
    assert [goal.measured for goal in found] == pytest.approx([2.0, 1.25, 2.5])
    assert [goal.met for goal in found] == [True, False, True]
    assert str(found[1]) == "bestfirst over assisted: wanted >= 1.3, 1.25, NOT met"
    alone = Report({}, {}, tabulate(runs[:1], names), runs).verdicts()
    assert [goal.met for goal in alone] == [None] * 3
    assert "not measured" in str(alone[0])


def test_a_run_file_goes_on_where_it_ended(tmp_path: Path):
    path = tmp_path / "runs.jsonl"
    file = RunFile.open(path, {"dtype": "float32", "pair": ("a", "b")})
    for run in RUNS[:2]:
        file.add(run)
    with path.open("a") as half:
        half.write('{"contender": "ar", "cat')
    again = RunFile.open(path, {"dtype": "float32", "pair": ("a", "b")})
    assert list(again.records.values()) == RUNS[:2]
    again.add(RUNS[2])
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines[1:]] == RUNS[:3]
    assert list(again.records) == list(map(key_of, RUNS[:3]))


def test_a_run_file_refuses_other_conditions_and_broken_lines(tmp_path: Path):
    path = tmp_path / "runs.jsonl"
    RunFile.open(path, {"dtype": "float32"}).add(RUNS[0])
    with pytest.raises(ValueError, match="dtype: 'float32' there, 'bfloat16' now"):
        RunFile.open(path, {"dtype": "bfloat16"})
    with pytest.raises(ValueError, match="seed: None there, 1 now"):
        RunFile.open(path, {"dtype": "float32", "seed": 1})
    path.write_text(path.read_text().replace('{"contender"', '{"contender', 1))
    with pytest.raises(ValueError, match="line 2: expected a JSON object"):
        RunFile.open(path, {"dtype": "float32"})


def test_a_file_cut_in_its_first_line_begins_anew(tmp_path: Path):
    path = tmp_path / "runs.jsonl"
    path.write_text('{"dtype": "flo')
    assert RunFile.open(path, {"dtype": "float32"}).records == {}
    assert path.read_text() == '{"dtype": "float32"}\n'


def test_pictures_show_what_the_figures_say():
    table = tabulate(RUNS, ["ar", "sps"])
    report = Report({}, {}, table, RUNS)
    bars = pictures.speedups(report).axes[0].containers[1]
    assert [bar.get_height() for bar in bars] == pytest.approx([1.25, 1.0, (4 / 3 + 0.5) / 2])
