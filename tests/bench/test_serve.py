"""Many requests through one engine: the mix that is drawn, loads, and what figures say."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from bench import serve
from bench.serve import table
from bench.served import SMOKE, Mix, Served, Wanted, draw_requests, figures, per_token


def test_the_smoke_mix_is_served_under_every_load(folders: tuple[Path, Path], tmp_path: Path):
    target, draft = map(str, folders)
    options = [
        "--target",
        target,
        "--draft",
        draft,
        "--device",
        "cpu",
        "--methods",
        "ar,auto,transformers",
    ]
    serve.main(["--smoke", *options, "--loads", "1,3", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "serve.json").read_text())["rows"]
    assert [(row["method"], row["in_flight"]) for row in rows] == [
        (method, load) for load in (1, 3) for method in ("ar", "auto", "transformers")
    ]
    assert {row["requests"] for row in rows} == {SMOKE.requests}
    assert len({row["tokens"] for row in rows}) == 1
    assert rows[0]["rows"] == 1.0 < rows[3]["rows"] <= 3.0
    assert (tmp_path / "serve.md").read_text().count("\n| ") == 1 + len(rows)


def test_a_mix_keeps_its_bounds_and_its_seed():
    texts = [list(range(10)), list(range(100, 130))]
    mix = Mix(300, (8, 64), (2, 5))
    requests = draw_requests(mix, texts, random.Random(3))
    assert requests == draw_requests(mix, texts, random.Random(3))
    lengths = [len(request.prompt) for request in requests]
    assert (min(lengths), max(lengths)) == (8, 64)
    assert {request.new_tokens for request in requests} == {2, 3, 4, 5}
    assert np.median(lengths) < 36  # of log-uniform lengths more are short
    for request in requests:
        assert request.prompt[:8] in ([*range(8)], [*range(100, 108)])


def test_figures_equal_those_done_by_hand():
    first = Served(Wanted([1], 7), 1.0, [1.5, 1.9, 2.5, 2.6], [1, 2, 3, 1])
    second = Served(Wanted([1], 2), 2.0, [3.0], [2])
    assert per_token(first) == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.2, 0.1])
    found = figures([first, second])
    assert (found["tokens"], found["tokens_per_s"]) == (9, pytest.approx(9 / 2))
    assert found["first_token_s"] == pytest.approx({"p50": 0.75, "p95": 0.975})


def test_a_table_is_over_plain_decoding_under_the_same_load():
    times = {"first_token_s": {"p50": 0.5, "p95": 1.0}, "per_token_s": {"p50": 0.01, "p95": 0.02}}
    rows = [
        {"method": method, "in_flight": load, "tokens_per_s": speed, **times}
        for method, load, speed in (("ar", 1, 10.0), ("ar", 2, 20.0), ("auto", 2, 25.0))
    ]
    assert table(rows)[-1] == "| 2 | auto | 25.0 | 1.25 | 0.50, 1.00 | 10, 20 |"
