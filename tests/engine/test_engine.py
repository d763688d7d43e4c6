from __future__ import annotations

import copy
import dataclasses
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import LaneError, ThreadLanes, VirtualLanes
from specbranch.lanes.base import Lane
from specbranch.models.runner import ModelRunner
from specbranch.policies import POLICIES, BestFirst, SpecBranch, make_policy
from specbranch.sampling import SamplingParams
from specbranch.sources.ranking import Ranker
from specbranch.trace import overlap
from specbranch.tree import Tree
from tests.engine import tiny

PROMPT = [7, 3, 9, 30, 12, 40]
GREEDY = SamplingParams(max_new_tokens=24)


@pytest.fixture
def pair():
    return tiny.pair(noise=0.15)


@pytest.fixture
def engine(pair):
    return virtual_engine(pair, BestFirst())


def virtual_engine(pair, policy, **options):
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    return Engine(pair, policy, lanes=lanes, **{"max_len": 256, **options})


def test_a_text_prompt_is_encoded_with_the_pairs_tokenizer(engine):
    generation = engine.generate("hello", SamplingParams(max_new_tokens=3))
    assert generation.prompt_token_ids == engine.pair.tokenizer.encode("hello")
    assert len(generation.token_ids) == 3


def test_no_new_tokens_is_an_empty_generation(engine):
    generation = engine.generate(PROMPT, SamplingParams(max_new_tokens=0))
    assert (generation.token_ids, generation.text, generation.finish_reason) == ([], "", "length")


def test_an_empty_prompt_is_refused(engine):
    with pytest.raises(ValueError, match="prompt"):
        engine.generate([])


@pytest.mark.parametrize("prompt", [[3, 64], [-1, 3]])
def test_tokens_outside_the_vocabulary_are_refused(engine, prompt):
    for request in (engine.generate, engine.stream):
        with pytest.raises(ValueError, match=rf"prompt: .* 0 to 63, got {min(prompt)} to "):
            request(prompt)
    assert len(engine.generate([63, 0], SamplingParams(max_new_tokens=3)).token_ids) == 3


def test_a_closed_engine_says_so(engine):
    engine.generate(PROMPT, GREEDY)
    too_late = engine.stream(PROMPT, GREEDY)
    engine.close()
    for request in (engine.generate, engine.stream):
        with pytest.raises(RuntimeError, match="the engine is closed"):
            request(PROMPT)
    assert list(too_late) == []
    assert too_late.generation.finish_reason == "cancelled"
    engine.close()


class Unruly(BestFirst):
    """Asks to expand what `wish` makes of the tree, once its root is expanded."""

    def __init__(self, wish: Callable[[Tree], object]) -> None:
        super().__init__()
        self.wish = wish

    def grow(self, tree, busy, step):
        return (0,) if tree.expandable(0) else self.wish(tree)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (lambda tree: tree.frontier(1) * 2, "grow: expected distinct nodes"),
        (lambda tree: [10**6], "grow: expected ids of nodes, .*, got 1000000"),
        (lambda tree: [-1], "grow: expected ids of nodes, .*, got -1"),
        (lambda tree: [0], "grow: expected .* not expanded, got node 0"),
        (lambda tree: None, "grow: expected a sequence of integers, got None"),
        (lambda tree: "likeliest", "grow: expected a sequence of integers, got 'likeliest'"),
        (lambda tree: [0.5], r"grow: expected a sequence of integers, got \[0.5\]"),
    ],
    ids=["twice", "stranger", "negative", "expanded", "nothing", "words", "fractions"],
)
def test_a_policy_that_grows_no_tree_is_told(pair, wish, message):
    engine = virtual_engine(pair, Unruly(wish))
    with pytest.raises(ValueError, match=f"policy bestfirst: {message}"):
        engine.generate(PROMPT, GREEDY)
    engine.policy = BestFirst()
    expected = virtual_engine(pair, BestFirst()).generate(PROMPT, GREEDY).token_ids
    assert engine.generate(PROMPT, GREEDY).token_ids == expected


def test_what_does_not_fit_is_refused(pair):
    engine = virtual_engine(pair, BestFirst(), max_len=32)
    with pytest.raises(ValueError, match=r"fit 32 tokens, .*, got 6 \+ 27"):
        engine.generate(PROMPT, SamplingParams(max_new_tokens=27))
    assert len(engine.generate(PROMPT, SamplingParams(max_new_tokens=26)).token_ids) == 26
    beyond_the_model = virtual_engine(pair, BestFirst(), max_len=4096)
    with pytest.raises(ValueError, match="fit 512 tokens"):
        beyond_the_model.generate(PROMPT, SamplingParams(max_new_tokens=507))


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        ("specbranch", {}, r"policy: expected a Policy, .*, got 'specbranch'"),
        (BestFirst, {}, "policy: expected a Policy, "),
        (BestFirst(fan=256), {}, "policy: expected max_fan up to 255, got 256"),
        (BestFirst(), {"max_len": 0}, "max_len: expected an integer >= 1, got 0"),
        (BestFirst(), {"max_nodes": 1.5}, "max_nodes: expected an integer >= 1, got 1.5"),
    ],
)
def test_engines_that_cannot_be_built(pair, policy, options, message):
    with pytest.raises(ValueError, match=message):
        Engine(pair, policy, **options)


def test_policies_forget_only_where_draws_depend_on_them(pair):
    class Forgetful(BestFirst):
        forgot = 0

        def fresh(self):
            self.forgot += 1
            return super().fresh()

    engine = virtual_engine(pair, Forgetful())
    for temperature in (0.0, 1.0):
        engine.generate(PROMPT, SamplingParams(temperature, coupling="rejection", max_new_tokens=2))
    assert engine.policy.forgot == 1


def before_forward(monkeypatch, model: torch.nn.Module, act: Callable[[], None], call: int) -> None:
    """Acts before the n-th forward of a model."""
    forward, calls = ModelRunner.forward, []

    def acting(runner, *args, **options):
        if runner.model is model:
            calls.append(args)
            if len(calls) == call:
                act()
        return forward(runner, *args, **options)

    monkeypatch.setattr(ModelRunner, "forward", acting)


def fail_at(monkeypatch, model: torch.nn.Module, error: BaseException, call: int) -> None:
    """Makes the n-th forward of a model raise."""

    def fail() -> None:
        raise error

    before_forward(monkeypatch, model, fail, call)


@pytest.mark.parametrize("lane", ["draft", "target"])
@pytest.mark.parametrize("kind", ["virtual", "threads"])
def test_a_failing_lane_ends_the_request_and_leaves_the_engine_usable(
    monkeypatch, pair, lane, kind
):
    reference = virtual_engine(pair, SpecBranch()).generate(PROMPT, GREEDY).token_ids
    costs = CostModel.parse("virtual:c=4")
    with ThreadLanes(1, 1) if kind == "threads" else VirtualLanes(costs) as lanes:
        engine = Engine(pair, SpecBranch(), lanes=lanes, max_len=256)
        fail_at(monkeypatch, getattr(pair, lane), MemoryError("out of memory"), call=4)
        with pytest.raises(LaneError, match=f"{lane} lane, {lane}: MemoryError: out of memory"):
            engine.generate(PROMPT, GREEDY)
        assert engine.generate(PROMPT, GREEDY).token_ids == reference


@pytest.fixture
def ctrl_c_interrupts():
    """Python's own handler, which it does not install where it is started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_interrupts")
@pytest.mark.parametrize("lane", ["draft", "target"])
def test_ctrl_c_while_waiting_for_a_lane_leaves_the_engine_usable(monkeypatch, pair, lane):
    def ctrl_c() -> None:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.2)  # the lane is still at work when the main thread gives up waiting

    reference = virtual_engine(pair, SpecBranch()).generate(PROMPT, GREEDY).token_ids
    with ThreadLanes(1, 1) as lanes:
        engine = Engine(pair, SpecBranch(), lanes=lanes, max_len=256)
        before_forward(monkeypatch, getattr(pair, lane), ctrl_c, call=4)
        with pytest.raises(KeyboardInterrupt):
            engine.generate(PROMPT, GREEDY)
        assert engine.generate(PROMPT, GREEDY).token_ids == reference


@pytest.mark.parametrize("lane", ["draft", "target"])
def test_an_interrupt_passes_through_and_leaves_the_engine_usable(monkeypatch, pair, lane):
    reference = virtual_engine(pair, SpecBranch()).generate(PROMPT, GREEDY).token_ids
    with ThreadLanes(1, 1) as lanes:
        engine = Engine(pair, SpecBranch(), lanes=lanes, max_len=256)
        fail_at(monkeypatch, getattr(pair, lane), KeyboardInterrupt(), call=4)
        with pytest.raises(KeyboardInterrupt):
            engine.generate(PROMPT, GREEDY)
        assert engine.generate(PROMPT, GREEDY).token_ids == reference


@pytest.mark.parametrize("coupling", ["gumbel", "rejection"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_logits_are_an_error_not_a_token(pair, temperature, coupling):
    engine = virtual_engine(pair, BestFirst())
    params = SamplingParams(temperature=temperature, coupling=coupling, max_new_tokens=20)
    healthy = engine.generate(PROMPT, params).token_ids
    weight = pair.target.lm_head.weight
    saved = weight.detach().clone()
    with torch.no_grad():
        weight[3] = float("nan")
    with pytest.raises(LaneError, match=r"target lane, verify: .*NaN"):
        engine.generate(PROMPT, params)
    with torch.no_grad():
        weight.copy_(saved)
    assert engine.generate(PROMPT, params).token_ids == healthy


@pytest.mark.parametrize("coupling", ["gumbel", "rejection"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_logits_of_the_draft_never_reach_the_text(pair, temperature, coupling):
    """Without a guess to test, the text is what the target writes alone."""
    params = SamplingParams(temperature=temperature, coupling=coupling, max_new_tokens=20)
    alone = virtual_engine(pair, make_policy("ar")).generate(PROMPT, params).token_ids
    engine = virtual_engine(pair, BestFirst())
    engine.generate(PROMPT, params)
    with torch.no_grad():
        pair.draft.lm_head.weight.fill_(float("nan"))
    assert engine.generate(PROMPT, params).token_ids == alone


def test_draft_and_target_overlap_on_threads():
    slow = tiny.pair(noise=0.15)
    with ThreadLanes(1, 1) as lanes:
        engine = Engine(slow, SpecBranch(), lanes=lanes, max_len=256)
        generation = engine.generate(PROMPT, SamplingParams(max_new_tokens=60))
    assert generation.stats.overlap > 0
    assert overlap(generation.trace.spans, "target", "draft") > 0


def test_serial_policies_never_overlap():
    engine = virtual_engine(tiny.pair(), make_policy("sps"))
    assert engine.generate(PROMPT, SamplingParams(max_new_tokens=30)).stats.overlap == 0


class OpsOf(TorchDispatchMode):
    """Collects the names of the ops that run under it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


class Watched(Lane):
    """A lane that notes which ops each piece of work calls."""

    def __init__(self, lane: Lane, seen: dict[str, list[set[str]]]) -> None:
        self.lane, self.seen, self.name = lane, seen, lane.name

    def submit(self, label, work, *, rows=0):
        def watched():
            with OpsOf() as ops:
                try:
                    return work()
                finally:
                    self.seen.setdefault(label, []).append(ops.names)

        return self.lane.submit(label, watched, rows=rows)

    def drain(self) -> None:
        self.lane.drain()


@pytest.mark.parametrize("method", POLICIES)
def test_every_step_runs_on_our_ops(pair, method):
    seen: dict[str, list[set[str]]] = {}
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    lanes.begin()
    lanes.draft, lanes.target = Watched(lanes.draft, seen), Watched(lanes.target, seen)
    lanes.begin = lambda: lanes.draft.lane.trace  # the spans of the wrapped lanes
    engine = Engine(pair, make_policy(method), lanes=lanes, max_len=256)
    engine.generate(PROMPT, SamplingParams(temperature=0.8, max_new_tokens=24))

    def names(label: str) -> list[set[str]]:
        return [{name.split(".")[1] for name in ops if "specbranch" in name} for ops in seen[label]]

    attends = {"branch_attention_out", "append_kv_"}
    assert all(attends <= ops for ops in names("target"))
    assert all(ops == {"verify_tree_out"} for ops in names("verify"))
    assert all(ops == {"compact_kv_"} for ops in names("commit"))
    if method != "ar":
        assert all(attends | {"draft_topk_out"} <= ops for ops in names("draft"))
    decoding = [*seen["target"], *seen.get("draft", [])]
    banned = ("scaled_dot_product", "softmax", "multinomial", "argmax", "topk.default")
    for ops in decoding:
        foreign = {name for name in ops if "specbranch" not in name}
        assert not [name for name in foreign if any(word in name for word in banned)]


def test_figures_of_a_perfect_draft(pair):
    twin = dataclasses.replace(pair, draft=copy.deepcopy(pair.target))
    engine = virtual_engine(twin, make_policy("sps", gamma=3))
    stats = engine.generate(PROMPT, SamplingParams(max_new_tokens=40)).stats
    assert stats.mean_accepted_length == pytest.approx(4, abs=0.2)
    assert stats.acceptance_rate == 1
    assert stats.rollback_rate == stats.branch_waste == 0
    assert (stats.tokens, stats.cost_ratio) == (40, 4)
    assert sum(stats.accepted_lengths) == 40


def test_figures_of_a_useless_draft(pair):
    stranger = dataclasses.replace(pair, draft=tiny.model(seed=99))
    engine = virtual_engine(stranger, make_policy("pearl", gamma=4))
    stats = engine.generate(PROMPT, SamplingParams(max_new_tokens=40)).stats
    assert stats.mean_accepted_length < 1.3
    assert stats.rollback_rate > 0.8
    assert stats.overlap > 0.9


def test_estimates_that_round_above_one_leave_subtrees_connected(monkeypatch, pair):
    """A certain guess may be estimated at 1 + 1e-7, yet no child is likelier than its parent."""
    fetch = Ranker.fetch

    def certain(*args):
        guesses = fetch(*args)
        return guesses._replace(estimates=np.full_like(guesses.estimates, 1 + 1e-6))

    healthy = virtual_engine(pair, BestFirst()).generate(PROMPT, GREEDY).token_ids
    monkeypatch.setattr(Ranker, "fetch", certain)
    assert virtual_engine(pair, BestFirst()).generate(PROMPT, GREEDY).token_ids == healthy


def test_a_generation_is_shown_on_one_screen(engine):
    generation = engine.generate(PROMPT, SamplingParams(max_new_tokens=240))
    shown = repr(generation)
    assert len(shown) < 500
    assert "240 tokens after a prompt of 6, finish_reason='length'" in shown
    assert generation.text[:100] in shown
