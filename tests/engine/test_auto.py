"""What auto learns and decides, with plain numbers for seconds and chances."""

from __future__ import annotations

from itertools import pairwise

import pytest

from specbranch._C import Tree
from specbranch.costs.learnt import MOST_CONTENTION, Costs, RowTimes, SharedCosts
from specbranch.costs.model import CostModel, LaneCosts, RowCosts
from specbranch.policies import Auto, BestFirst, Outcome, SpecBranch
from specbranch.policies.auto import ALONE, FIRST_STAY, FIRST_TRIAL, LONGEST_STAY, TRIAL
from specbranch.policies.base import Policy
from specbranch.policies.cost_aware import Alone, CostAware, InSeries
from specbranch.policies.prospects import Prospects
from specbranch.replay import Replayer, SyntheticLaws, rank_rates, synthetic_recording
from specbranch.trace import Label, Span
from tests.engine.pretended import Draft

SURE, USELESS = (0.8,), (0.01,)


def aware(costs: Costs, **limits: int) -> CostAware:
    return CostAware(costs, Prospects(SharedCosts(Costs())), fan=16, **limits)


class Machine:
    """Rounds of a policy on a draft with the given confidence, with seconds for its forwards."""

    def __init__(self, policy: Policy, *, draft: float = 0.0, target: float = 0.0) -> None:
        self.policy = policy
        self.draft_row, self.target_row = draft, target  # seconds of each further row
        self.contention = 1.0  # how much longer a target forward takes beside a busy draft
        self.rows: list[int] = []
        self.steps: list[list[int]] = []

    def run(self, rounds: int, confidence: tuple[float, ...]) -> None:
        for _ in range(rounds):
            draft = Draft(self.policy, confidence)
            idle = draft.grow(busy=False, steps=12)
            rows = len(draft.submit())
            busy = draft.grow(busy=True, steps=8)
            target = (10 + self.target_row * (rows - 1)) * (self.contention if busy else 1.0)
            spans = [self._span("draft", n, 1 + self.draft_row * (n - 1)) for n in idle + busy]
            spans.append(self._span("target", rows, target))
            seconds = target + sum(span.end for span in spans[: len(idle)])
            self.rows.append(rows)
            self.steps.append(idle + busy)
            outcome = Outcome(True, 1, rows - 1, 10.0, seconds, spans)
            self.policy.observe(outcome)
            if isinstance(self.policy, CostAware):
                self.policy.learn(outcome)

    @staticmethod
    def _span(lane: str, rows: int, seconds: float) -> Span:
        return Span(lane, lane, 0.0, seconds, rows)


def test_row_times_are_averages_linear_between_and_beyond():
    times = RowTimes()
    assert times(5) == 0
    for _ in range(50):
        times.learn(1, 2.0)
        times.learn(8, 9.0)
    assert [times(rows) for rows in (1, 2, 8, 64)] == pytest.approx([2, 3, 9, 65])
    times.learn(64, 100.0)
    assert times(64) == pytest.approx(100)
    assert 9 < times(16) < 100
    assert times.most == 64
    fresh = RowTimes()
    fresh.learn(8, 4.0)
    assert [fresh(rows) for rows in (0, 4, 8, 32)] == [2, 3, 4, 4]
    assert fresh.up_to(70).tolist() == pytest.approx([fresh(rows) for rows in range(71)])


def test_more_rows_never_look_cheaper_than_were_seen():
    times = RowTimes()
    times.learn(4, 3.0)
    times.learn(8, 2.0)
    assert times(64) == 2


def test_a_first_forward_that_warms_up_bars_no_few_rows():
    times = RowTimes()
    times.learn(2, 60.0)
    times.learn(8, 2.0)
    assert times(2) == times(8) == 2
    assert times(1) < 2


def test_a_disturbed_forward_counts_as_twice_what_was_known():
    times = RowTimes()
    times.learn(4, 1.0)
    times.learn(4, 1000.0)
    assert times(4) == pytest.approx(1.2)


def test_row_times_follow_a_machine_that_changes():
    times = RowTimes()
    times.learn(4, 1.0)
    for _ in range(50):
        times.learn(3, 5.0)
    assert times(3) == pytest.approx(5, abs=0.01)


def test_free_rows_are_all_taken_and_dear_ones_are_not():
    free = Machine(aware(Costs(), rows_draft=8, rows_target=32))
    dear = Machine(aware(Costs(), rows_draft=8, rows_target=32), draft=1.0, target=5.0)
    for machine in (free, dear):
        machine.run(40, SURE)
    assert free.rows[-1] == 32
    assert max(free.steps[-1]) == 8
    assert dear.rows[-1] < 8
    assert max(dear.steps[-1]) < 4


def test_requests_share_the_rows_of_one_forward():
    """Rows are free up to 16 and dear beyond: four trees get 16 together, the surest one most."""
    policy = aware(Costs(), rows_draft=8, rows_target=32)
    for rows, seconds in ((1, 1.0), (16, 1.0), (32, 100.0)) * 40:
        policy.costs.target.learn(rows, seconds)
    policy.pace.learn(4, 1.0)
    drafts = [Draft(policy, confidence) for confidence in (SURE, USELESS, USELESS, USELESS)]
    for draft in drafts:
        draft.grow(busy=True, steps=6)
    policy.survey([draft.tree for draft in drafts[:1]])
    (alone,) = (len(draft.submit()) for draft in drafts[:1])
    policy.survey([draft.tree for draft in drafts])
    sure, *useless = (len(draft.submit()) for draft in drafts)
    assert alone == sure + sum(useless) == 16
    assert min(useless) >= 1
    assert sure > 2 * max(useless)


def test_many_requests_begin_with_two_rows_each_at_most():
    policy = aware(Costs(), rows_draft=16, rows_target=64)
    drafts = [Draft(policy, SURE) for _ in range(8)]
    for draft in drafts:
        draft.grow(busy=True, steps=6)
    policy.survey([draft.tree for draft in drafts])
    assert sum(len(draft.submit()) for draft in drafts) == 16


def test_many_requests_learn_early_what_plain_decoding_takes():
    """The first trial comes after as many rounds of requests, whoever's, and is plain decoding."""
    auto = Auto()
    policies = [auto.begin() for _ in range(8)]
    for number in range(2):
        spans = [Span("draft", "draft", 0, 1, 8), Span("target", "target", 0, 10, 16)]
        for policy in policies:
            policy.observe(Outcome(True, 1, 1, 10.0, 10.0, spans, requests=8))
        assert type(auto.current) is (CostAware, Alone)[number]


def test_rows_at_most_double_from_round_to_round():
    machine = Machine(aware(Costs(), rows_draft=16, rows_target=64))
    machine.run(12, SURE)
    assert machine.rows[0] == 8
    assert max(machine.steps[0]) == 4
    for rows, before in zip(machine.rows[1:], machine.rows, strict=False):
        assert rows <= 2 * max(machine.rows[: machine.rows.index(before) + 1])
    assert machine.rows[-1] == 64


def test_a_requests_first_round_has_the_prefill_in_it_and_teaches_costs_alone():
    auto = Auto()
    machine = Machine(auto.begin())
    machine.run(1, SURE)
    assert auto.current.pace.tokens_per_s == 0
    assert auto.current.costs.target(8) == 10
    machine.run(1, SURE)
    pace = auto.current.pace.tokens_per_s
    assert pace > 0
    Machine(auto.begin()).run(1, SURE)
    assert auto.current.pace.tokens_per_s == pace


def test_the_second_round_knows_already_that_rows_are_dear():
    machine = Machine(Auto().begin(), target=5.0)
    machine.run(2, SURE)
    assert machine.rows[0] == 8
    assert machine.rows[1] < 8


def test_a_ways_first_round_has_anothers_tree_and_does_not_teach_its_pace():
    policy = Auto().begin()
    machine = Machine(policy)
    machine.contention = 4.0
    machine.run(FIRST_TRIAL, USELESS)
    tried, pace = policy.current, policy.current.pace.tokens_per_s
    assert tried is not policy.settled
    machine.run(1, USELESS)
    assert tried.pace.tokens_per_s == pace
    machine.run(1, USELESS)
    assert policy.current is tried
    assert tried.pace.tokens_per_s != pace


def test_auto_goes_on_at_once_while_that_is_fastest_and_tries_others_ever_less_often():
    policy = Auto().begin()
    machine = Machine(policy)
    ways = []
    for _ in range(16 * FIRST_STAY):
        machine.run(1, SURE)
        ways.append(type(policy.current))
    trials = [place for place, way in enumerate(ways) if way is not CostAware]
    assert trials[0] == FIRST_TRIAL - 1
    assert all(after - before > FIRST_STAY for before, after in pairwise(trials))
    assert 2 <= len(trials) <= 4


def test_auto_stops_drafting_where_it_loses_and_comes_back():
    policy = Auto().begin()
    machine = Machine(policy, draft=1.0, target=3.0)
    machine.contention = 2.0
    machine.run(10 * FIRST_STAY, USELESS)
    assert isinstance(policy.settled, Alone)
    machine.draft_row = machine.target_row = 0.0
    machine.contention = 1.0
    machine.run(4 * LONGEST_STAY, SURE)
    assert policy.settled.drafts


def test_auto_works_by_turns_where_two_models_at_once_slow_each_other_down():
    policy = Auto().begin()
    machine = Machine(policy)
    machine.contention = 4.0
    machine.run(10 * FIRST_STAY, SURE)
    assert isinstance(policy.settled, InSeries)
    assert isinstance(policy.begin().current, InSeries)
    assert type(policy.fresh().current) is CostAware


def test_plain_decoding_takes_over_as_soon_as_it_is_known_to_be_faster():
    policy = Auto().begin()
    machine = Machine(policy)
    machine.contention = 2.0
    machine.run(FIRST_TRIAL + TRIAL, SURE)
    assert policy.settled.drafts
    assert policy.ways.alone.costs.target.most
    machine.target_row = machine.draft_row = 3.0
    machine.run(FIRST_STAY // 2, USELESS)
    assert isinstance(policy.settled, Alone)


def test_drafting_that_paid_on_a_text_is_tried_with_the_next():
    auto = Auto()
    machine = Machine(auto.begin(), draft=1.0, target=3.0)
    machine.contention = 2.0
    machine.run(10 * FIRST_STAY, USELESS)
    assert isinstance(auto.begin().current, Alone)
    machine.draft_row = machine.target_row = 0.0
    machine.run(LONGEST_STAY, SURE)
    assert auto.settled.drafts
    auto._settle_on(ALONE)
    auto._choice.requests = 8  # whose prompts a draft would have to read at each of them
    assert not auto.begin().current.drafts
    auto._choice.requests = 1
    assert auto.begin().current.drafts


@pytest.mark.parametrize("wanted", [8, 800])
@pytest.mark.parametrize("covered", [False, True])
def test_out_of_plain_decoding_drafting_promises_only_what_reading_leaves(wanted, covered):
    """Tokens in 3 seconds instead of 10, after the draft has read for 100, perhaps beside the
    target's reading and without slowing it down."""
    alone = Costs()
    prospects = Prospects(SharedCosts(alone))
    prospects.meet(Tree(0, remaining=wanted))
    plain, by_turns = (kind(alone, prospects, 8, 32, 16) for kind in (Alone, InSeries))
    forwards = [Span("draft", "draft", 0, 1, 1), Span("target", "target", 1, 11, 8)]
    reading = [Span("draft", Label.PREFILL, 11, 111)]
    if covered:
        reading.append(Span("target", Label.PREFILL, 11, 111))
    plain.observe(Outcome(True, 1, 1, 10.0, 100.0, [*forwards, *reading]))
    plain.learn(Outcome(True, 0, 0, 10.0, 10.0))
    assert by_turns.promises(plain) == (wanted == 800 or covered)
    for _ in range(50):  # of guesses that never hold
        plain.observe(Outcome(False, 0, 1, 10.0))
    alone.learn([Span("draft", "draft", 0, 8, 1)] * 50)
    assert not by_turns.promises(plain)


def test_drafting_beside_the_target_has_the_price_of_what_it_slows_down():
    alone = Costs()
    policy = aware(SharedCosts(alone), rows_draft=8, rows_target=32)
    spans = [Span("target", "target", 0.0, 10.0, 8), Span("draft", "draft", 0.0, 1.0, 1)]
    spans += [Span("draft", "draft", 4.0, 8.0, 1)]
    policy.costs.learn(spans)
    policy.pace.learn(8, 1.0)
    assert policy.costs.contention == MOST_CONTENTION
    assert policy.costs.slowdown == 0
    unpriced = Draft(policy, SURE).grow(busy=True, steps=8)
    alone.learn([Span("target", "target", 0.0, 8.0, 8)])
    assert policy.costs.contention == pytest.approx(10 / 8)
    assert 0.2 / 0.5 <= policy.costs.slowdown <= 1
    assert len(Draft(policy, SURE).grow(busy=True, steps=8)) < len(unpriced)


def test_what_the_target_takes_long_for_is_not_drafted_while_it_waits():
    grown = {}
    for row_s in (0.0, 0.8):
        policy = aware(Costs(), rows_draft=8, rows_target=32)
        target = [Span("target", "target", 0.0, 10 + row_s * n, n) for n in (1, 8, 32)]
        policy.costs.learn([*target, Span("draft", "draft", 0.0, 0.1, 1)])
        policy.pace.learn(1, 1.0)
        policy.shares.rows = 8
        steps = [Draft(policy, SURE).grow(busy=busy, steps=8) for busy in (False, True)]
        grown[row_s] = list(map(sum, steps))
    assert grown[0.8][0] < grown[0.0][0]
    assert grown[0.8][1] >= grown[0.0][1]


DEAR_DRAFT = LaneCosts(RowCosts((1, 4, 16), (1.0, 1.4, 4.0)))
DEAR_TARGET = LaneCosts(RowCosts((1, 4, 8, 64), (8.0, 8.0, 10.0, 42.0)))


@pytest.mark.parametrize(
    "costs",
    [CostModel.rows_free("free", 8), CostModel("dear", DEAR_DRAFT, DEAR_TARGET)],
    ids=lambda costs: costs.name,
)
@pytest.mark.parametrize("alignment", [0.4, 0.95])
def test_auto_starts_as_fast_as_the_better_of_bestfirst_and_specbranch(costs, alignment):
    def seconds(policy: Policy, first_seed: int) -> list[float]:
        replayer = Replayer(policy, costs)
        seeds = range(first_seed, first_seed + 3)
        laws = [SyntheticLaws(rank_rates(alignment), concentration=2, seed=s) for s in seeds]
        return [replayer.replay(synthetic_recording(64), each).stats.wall_s for each in laws]

    def of_groups(policy: type[Policy]) -> tuple[float, float]:
        groups = [seconds(policy(), first_seed) for first_seed in (0, 3)]
        return sum(group[0] for group in groups), sum(map(sum, groups))

    mine, *others = map(of_groups, (Auto, BestFirst, SpecBranch))
    first, whole = map(min, *others)
    assert mine[0] <= 1.1 * first
    assert mine[1] <= 1.03 * whole
