"""Several requests in one round loop: each writes what it writes alone."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

import pytest

from specbranch import ops
from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.growth import Experience, Growth
from specbranch.lanes import ThreadLanes, VirtualLanes
from specbranch.loop import RoundLoop
from specbranch.models.runner import ModelRunner
from specbranch.policies import Autoregressive
from specbranch.request import Request
from specbranch.sampling import SamplingParams
from specbranch.sources.model import ModelSource
from specbranch.stopping import Transcript
from specbranch.verifier import Verifier
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
    return tiny.pair(seed=15, noise=0.15)


class Together:
    """Requests in one loop over one runner a model."""

    def __init__(self, pair, policy, lanes, max_requests: int) -> None:
        sizes = {"max_len": 128, "max_nodes": 32, "max_requests": max_requests}
        target = ModelRunner(pair.target, **sizes)
        source = ModelSource(ModelRunner(pair.draft, **sizes), policy.max_fan, target.vocab_size)
        self.pair, self.policy, self.lanes = pair, policy, lanes
        growth = Growth(source, lanes.draft, Experience())
        self.loop = RoundLoop(growth, Verifier(target, lanes.target), lanes, lanes.begin())

    def request(self, prompt: list[int], params: SamplingParams) -> Request:
        drawn = params.effective_coupling == "rejection"
        policy = self.policy.fresh() if drawn else self.policy.begin()
        ends = params.ends(self.pair.eos_token_ids)
        return Request(prompt, params, policy, Transcript(None, ends, (), params.max_new_tokens))

    def generate(self, wanted: list[tuple[list[int], SamplingParams]]) -> list[list[int]]:
        """Requests join one a round, and leave when they end."""
        requests = [self.request(*each) for each in wanted]
        with ExitStack() as stack:
            joined: list[Request] = []
            while not all(request.finished for request in requests):
                if len(joined) < len(requests):
                    joined.append(requests[len(joined)])
                    stack.enter_context(self.loop.serving(joined[-1]))
                self.loop.step(by_coupling([each for each in joined if not each.finished]))
        return [request.transcript.token_ids for request in requests]


def by_coupling(requests: list[Request]) -> list[Request]:
    return sorted(requests, key=lambda each: each.params.effective_coupling)


@pytest.mark.parametrize("policy", POLICIES)
def test_requests_together_write_what_each_writes_alone(pair, policy):
    wanted = [(prompt, params) for params in MIXES["gumbel"] for prompt in PROMPTS]
    together = Together(pair, POLICIES[policy](), VirtualLanes(COSTS), len(wanted))
    engine = Engine(pair, Autoregressive(), lanes=VirtualLanes(COSTS), max_len=128)
    alone = [engine.generate(*each).token_ids for each in wanted]
    assert together.generate(wanted) == alone


def test_couplings_live_side_by_side(pair):
    """A request that draws goes on drawing as it does alone, whoever is beside it."""
    wanted = [(PROMPTS[1], params) for params in MIXES["both couplings"]]
    policy = POLICIES["sps"]
    texts = Together(pair, policy(), VirtualLanes(COSTS), len(wanted)).generate(wanted)
    for each, text in zip(wanted, texts, strict=True):
        assert [text] == Together(pair, policy(), VirtualLanes(COSTS), 1).generate([each])


def test_threads_serve_many_too(pair):
    wanted = [(prompt, params) for params in MIXES["gumbel"] for prompt in PROMPTS]
    virtual = Together(pair, POLICIES["bestfirst"](), VirtualLanes(COSTS), len(wanted))
    with ThreadLanes(1, 1) as lanes:
        threads = Together(pair, POLICIES["bestfirst"](), lanes, len(wanted))
        assert threads.generate(wanted) == virtual.generate(wanted)


def test_a_round_is_one_forward_one_verdict_one_compaction(pair, monkeypatch):
    counts: Counter[str] = Counter()

    def counted(owner, name):
        whole = getattr(owner, name)

        def call(*args, **options):
            counts[name] += 1
            return whole(*args, **options)

        monkeypatch.setattr(owner, name, call)

    wanted = [(prompt, params_of("T=1")) for prompt in PROMPTS]
    together = Together(pair, POLICIES["pearl"](), VirtualLanes(COSTS), len(wanted))
    requests = [together.request(*each) for each in wanted]
    with ExitStack() as stack:
        for request in requests:
            stack.enter_context(together.loop.serving(request))
        together.loop.step(requests)
        counted(ops, "verify_tree_out")
        counted(ops, "compact_kv_")
        counted(ModelRunner, "forward")
        together.loop.step(requests)
    steps = max(request.stats.draft_forwards for request in requests)
    assert counts["verify_tree_out"] == 1
    assert counts["compact_kv_"] <= 3  # one a model, and one where the draft caught up
    assert counts["forward"] <= 1 + steps
