"""Many requests through one engine: the mix that is drawn, and what its figures say."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from bench import serve_mix
from bench.decoding.answer import Answer
from bench.serve_mix import Mix, between_bursts, draw_requests, memory_figures, per_token
from specbranch.stats import Stats


def test_the_smoke_mix_is_served(folders: tuple[Path, Path], tmp_path: Path):
    target, draft = map(str, folders)
    models = ["--target", target, "--draft", draft, "--device", "cpu"]
    serve_mix.main(["--smoke", *models, "--out", str(tmp_path)])
    result = json.loads((tmp_path / "serve-mix.json").read_text())
    assert result["requests"] == serve_mix.SMOKE.requests == len(result["runs"])
    assert result["tokens"] == sum(run["tokens"] for run in result["runs"])
    assert result["memory"]["most_bytes"] > 0
    assert (tmp_path / "serve-mix.png").is_file()


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


def test_times_between_tokens_equal_those_done_by_hand():
    answer = Answer([0] * 7, 2.0, [0.5, 0.9, 1.5, 1.6], Stats(accepted_lengths=[1, 2, 3, 1]))
    assert between_bursts(answer) == pytest.approx([0.4, 0.6, 0.1])
    assert per_token(answer) == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.2, 0.1])


def test_memory_is_flat_if_it_settles_and_not_if_it_leaks():
    settling = np.concatenate([np.linspace(500, 1000, 20), np.full(80, 1000.0)])
    flat = memory_figures(settling)
    assert flat["flat"]
    assert abs(flat["growth"]) < 1e-9
    assert (flat["start_bytes"], flat["end_bytes"], flat["most_bytes"]) == (500, 1000, 1000)
    leaking = memory_figures(1000.0 + np.arange(100))
    assert leaking["bytes_per_request"] == pytest.approx(1.0)
    assert leaking["growth"] == pytest.approx(79 / 1020)
    assert not leaking["flat"]
