"""Several requests in one round loop: each writes what it writes alone."""

from __future__ import annotations

from collections import Counter

import pytest

from specbranch import ops
from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import ThreadLanes, VirtualLanes
from specbranch.models.runner import ModelRunner
from specbranch.policies import Autoregressive
from specbranch.sampling import SamplingParams
from tests.engine import tiny
from tests.engine.test_identity import POLICIES, PROMPTS, params_of

COSTS = CostModel.parse("virtual:c=4")
MIXES = {
    "gumbel": [params_of("greedy"), params_of("T=1"), params_of("all", max_new_tokens=13)],
    "both couplings": [
        params_of("T=1"),
        params_of("greedy", coupling="rejection"),
        params_of("T=1", coupling="rejection", max_new_tokens=25),
        params_of("all", coupling="rejection"),
    ],
}


@pytest.fixture(scope="module")
def pair():
    return tiny.packed(tiny.pair(seed=15, noise=0.15))


def texts(engine: Engine, wanted: list[tuple[list[int], SamplingParams]]) -> list[list[int]]:
    """Requests join one a round, and leave when they end."""
    streams = []
    for each in wanted:
        streams.append(engine.stream(*each))
        engine.step()
    return [[token for chunk in stream for token in chunk.token_ids] for stream in streams]


def engine_of(pair, policy: str, max_requests: int, lanes=None) -> Engine:
    return Engine(
        pair,
        POLICIES[policy](),
        lanes=lanes or VirtualLanes(COSTS),
        max_requests=max_requests,
        max_len=128,
        max_nodes=32,
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_requests_together_write_what_each_writes_alone(pair, policy):
    wanted = [(prompt, params) for params in MIXES["gumbel"] for prompt in PROMPTS]
    alone = Engine(pair, Autoregressive(), lanes=VirtualLanes(COSTS), max_len=128)
    expected = [alone.generate(*each).token_ids for each in wanted]
    assert texts(engine_of(pair, policy, len(wanted)), wanted) == expected
    assert texts(engine_of(pair, policy, 2), wanted) == expected  # others wait


def test_couplings_live_side_by_side(pair):
    """A request that draws goes on drawing as it does alone, whoever is beside it."""
    wanted = [(PROMPTS[1], params) for params in MIXES["both couplings"]]
    together = texts(engine_of(pair, "sps", len(wanted)), wanted)
    for each, text in zip(wanted, together, strict=True):
        assert [text] == texts(engine_of(pair, "sps", 1), [each])


def test_threads_serve_many_too(pair):
    wanted = [(prompt, params) for params in MIXES["gumbel"] for prompt in PROMPTS]
    virtual = texts(engine_of(pair, "bestfirst", len(wanted)), wanted)
    with ThreadLanes(1, 1) as lanes:
        assert texts(engine_of(pair, "bestfirst", len(wanted), lanes), wanted) == virtual


def test_a_round_is_one_forward_one_verdict_one_compaction(pair, monkeypatch):
    counts: Counter[str] = Counter()

    def counted(owner, name):
        whole = getattr(owner, name)

        def call(*args, **options):
            counts[name] += 1
            return whole(*args, **options)

        monkeypatch.setattr(owner, name, call)

    engine = engine_of(pair, "pearl", len(PROMPTS))
    streams = [engine.stream(prompt, params_of("T=1")) for prompt in PROMPTS]
    for _ in range(2 * len(PROMPTS)):
        engine.step()
    counted(ops, "verify_tree_out")
    counted(ops, "compact_kv_")
    counted(ModelRunner, "forward")
    engine.step()
    assert counts["verify_tree_out"] == 1
    assert counts["compact_kv_"] <= 3  # one a model, and one where the draft caught up
    assert 2 <= counts["forward"] <= 1 + 2 * 4  # a draft step is a quarter of a target forward
    for stream in streams:
        stream.close()


def test_a_list_of_prompts(pair):
    engine = engine_of(pair, "bestfirst", 2)
    several = engine.generate(
        PROMPTS, [params_of("T=1"), *[params_of("greedy")] * (len(PROMPTS) - 1)]
    )
    assert [each.token_ids for each in several] == [
        engine.generate(PROMPTS[0], params_of("T=1")).token_ids,
        *(engine.generate(prompt, params_of("greedy")).token_ids for prompt in PROMPTS[1:]),
    ]
    with pytest.raises(ValueError, match=f"params: expected {len(PROMPTS)}, one a prompt, got 1"):
        engine.generate(PROMPTS, [params_of("greedy")])
    with pytest.raises(ValueError, match="max_new_tokens"):
        engine.generate([PROMPTS[0], [5] * 200], params_of("greedy"))
    assert not engine.step()
