"""What is done once is done before the first request."""

from __future__ import annotations

import pytest
import torch

from specbranch.engine import Engine
from specbranch.lanes import StreamLanes
from specbranch.loading.prepack import pack_linears
from specbranch.models import runner as runner_module
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams

from . import pretended_gpu, tiny

PROMPT = [5, 6, 7, 8]
PARAMS = SamplingParams(max_new_tokens=16)
SIZES = {"max_len": 64, "max_nodes": 16, "max_requests": 2}
METHODS = ["ar", "sps", "specbranch"]


@pytest.fixture
def pair():
    pair = tiny.pair()
    pack_linears(pair.target)
    pack_linears(pair.draft)
    return pair


@pytest.mark.parametrize("method", METHODS)
def test_no_forward_is_prepared_in_a_request(pair, method, monkeypatch):
    made, prepared = [], runner_module.prepared
    monkeypatch.setattr(
        runner_module, "prepared", lambda *given: made.append(given) or prepared(*given)
    )
    with Engine(pair, make_policy(method), **SIZES) as cold:
        wanted = cold.generate(PROMPT, PARAMS)
    made.clear()
    with Engine(pair, make_policy(method), **SIZES) as engine:
        engine.warm_up()
        assert len(made) == 2
        got = engine.generate(PROMPT, PARAMS)
        assert engine.stats()["free_pages"] == engine.stats()["pages"]
    assert len(made) == 2
    assert got.token_ids == wanted.token_ids
    assert "warm-up" not in {span.label for span in got.trace.spans}


@pytest.mark.parametrize("method", METHODS)
def test_no_graph_is_captured_in_a_request(method, monkeypatch):
    gpu = pretended_gpu.pretend(monkeypatch)
    cpu = torch.device("cpu")
    engine = Engine(tiny.pair(), make_policy(method), lanes=StreamLanes(cpu, cpu), **SIZES)
    captured = [list(capture.rows) for capture in gpu.captures]
    spans = engine.generate(PROMPT, PARAMS).trace.spans
    assert "warm-up" not in {span.label for span in spans}
    assert [list(capture.rows) for capture in gpu.captures] == captured
    assert captured == [[32, 16, 8, 4, 2, 1]] * 2


def test_an_engine_without_a_draft_warms_its_target_alone(pair):
    with Engine(pair, make_policy("sps"), source="ngram", **SIZES) as engine:
        engine.warm_up()
        assert engine.generate(PROMPT, PARAMS).token_ids
