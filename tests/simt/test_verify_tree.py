"""verify_tree: the CUDA kernels against the CPU's and the reference."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from specbranch import ops, reference
from tests.ops.cases import generators, int32, random_allowed
from tests.ops.test_verify_tree import outcome, outcomes_within_rounding
from tests.ops.tree_cases import (
    TreeCase,
    greedy_tree,
    together,
    tree_cases,
    two_failures_along_a_path,
)
from tests.simt.device import SCHEDULES
from tests.simt.sampling import SimulatedOps

schedules = st.sampled_from(SCHEDULES)
# A tile has 512 tokens.
cases = st.one_of(tree_cases(vocabs=(2, 3, 9, 200)), tree_cases(vocabs=(1300,)))


def verify(case: TreeCase, schedule) -> dict[str, list]:
    return outcome(SimulatedOps(schedule).verify_tree(*case.arguments()))


def assert_matches(case: TreeCase, schedule) -> None:
    found = verify(case, schedule)
    event(f"deepest walk {max(found['path_len'])}")
    expected = outcome(reference.verify_tree(*case.arguments()))
    assert found["status"] == expected["status"]
    if found == expected:
        return
    event("a decision within rounding")
    for b in range(len(case.n_nodes)):
        alone = case.request(b)
        assert verify(alone, schedule) in outcomes_within_rounding(alone)


@settings(max_examples=10)
@given(case=cases, schedule=schedules)
def test_gumbel_equals_reference(case, schedule):
    assert_matches(case.gumbel(), schedule)


@settings(max_examples=10)
@given(case=cases, schedule=schedules)
def test_rejection_equals_reference(case, schedule):
    assert_matches(case, schedule)


@settings(max_examples=8)
@given(case=cases, schedule=schedules)
def test_gumbel_is_that_of_the_cpu(case, schedule):
    case = case.gumbel()
    case.top_p, case.min_p = torch.ones_like(case.top_p), torch.zeros_like(case.min_p)
    assert verify(case, schedule) == outcome(ops.verify_tree(*case.arguments()))


@settings(max_examples=8)
@given(generator=generators(), case=cases, schedule=schedules)
def test_what_is_not_allowed_has_no_mass(generator, case, schedule):
    allowed, spoilt, seen = random_allowed(case.target_logits, generator)
    for coupled in (case, case.gumbel()):
        with_bits = replace(coupled, target_logits=spoilt).arguments()
        found = outcome(SimulatedOps(schedule).verify_tree(*with_bits, allowed))
        assert found == verify(replace(coupled, target_logits=seen), schedule)


@settings(max_examples=4)
@given(case=tree_cases(vocabs=(8500,)), schedule=schedules)
def test_rows_split_over_blocks(case, schedule):
    assert_matches(case.gumbel(), schedule)
    assert_matches(case, schedule)


def test_a_bad_row_is_an_error_only_where_the_walk_visits_it():
    for bad, status in ((1, 1), (2, 0)):
        for value in (math.nan, math.inf, -math.inf):
            case = greedy_tree()
            case.target_logits[bad] = value
            found = verify(case, SCHEDULES[2])
            assert found["status"] == [status]
            assert found["path_len"] == [0 if status else 2]
            assert found["next_token"] == [-1 if status else 7]
            assert found["winner"] == [-1 if status else 3]
            assert found["path"] == [[-1] * 4 if status else [0, 1, -1, -1]]


@pytest.mark.parametrize(
    "idle", [{"n_nodes": int32([0])}, {"row_indptr": int32([0, 0])}], ids=["no nodes", "no rows"]
)
def test_idle_requests_read_no_row(idle):
    case = greedy_tree(**idle, target_logits=torch.empty(0, 8))
    assert verify(case, SCHEDULES[1]) == {
        "path": [[-1] * 4],
        "path_len": [0],
        "next_token": [-1],
        "winner": [-1],
        "status": [0],
    }


@pytest.mark.parametrize("batch", [64, 513, 1300])
def test_every_row_finds_its_request(batch):
    """One in nine has rows, so that there are fewer rows than requests; a block has 512 threads."""
    tree, idle = greedy_tree(), greedy_tree().without_rows()
    case = together(*(tree if b % 9 == 5 else idle for b in range(batch)))
    case.target_logits = torch.cat([case.target_logits, torch.full((2, 8), math.nan)])
    case.temperature, case.seed = torch.ones(batch), torch.arange(batch)
    found = verify(case, SCHEDULES[2])
    assert found == outcome(ops.verify_tree(*case.arguments()))
    assert len(set(found["next_token"])) > 2


def test_many_failed_draws():
    """Every draw fails but the last, which the residual law must meet."""
    vocab, drawn = 40, 30
    draft = torch.zeros(1, vocab)
    draft[..., :drawn] = 1 / drawn
    logits = torch.full((1, vocab), -math.inf)
    logits[..., drawn - 1 :] = torch.arange(vocab - drawn + 1.0)
    case = greedy_tree(
        candidates=int32([[0, *range(drawn)]]),
        parents=int32([[-1, *[0] * drawn]]),
        n_nodes=int32([drawn + 1]),
        row_indptr=int32([0, 1]),
        target_logits=logits,
        temperature=torch.ones(1),
        draft_probs=draft,
        draw=torch.arange(drawn + 1, dtype=torch.uint8)[None],
    )
    tokens = set()
    for seed in range(4):
        case.seed = torch.tensor([seed])
        found = verify(case, SCHEDULES[seed % 4])
        assert found == outcome(ops.verify_tree(*case.arguments()))
        tokens.update(found["next_token"])
    assert len(tokens) > 1


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_failures_of_two_nodes_share_memory_one_after_the_other(schedule):
    case = two_failures_along_a_path()
    found = verify(case, schedule)
    assert found == outcome(ops.verify_tree(*case.arguments()))
    assert found["path"] == [[0, 2, -1, -1]]


def children_of_a_larger_law(children: int, seed: int) -> TreeCase:
    """Drawn, at most two, from twice the target's law: the first failure leaves nothing of it."""
    vocab = 1300
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, vocab, generator=generator)
    drawn = logits[0].topk(2).indices.tolist()
    return greedy_tree(
        candidates=int32([[0, *drawn]]),
        parents=int32([[-1, 0, 0]]),
        n_nodes=int32([1 + children]),
        row_indptr=int32([0, 1]),
        target_logits=logits,
        temperature=torch.ones(1),
        seed=torch.tensor([seed]),
        draft_probs=2 * logits.softmax(-1),
        draw=torch.tensor([[0, 1, 2]], dtype=torch.uint8),
    )


def test_failures_that_leave_no_mass_keep_the_last_law():
    winners = set()
    for seed in range(4):
        for children in (1, 2):
            case = children_of_a_larger_law(children, seed)
            found = verify(case, SCHEDULES[seed])
            assert found == outcome(ops.verify_tree(*case.arguments()))
            winners.update(found["winner"])
    assert winners == {-1, 1, 2}


def likely_child(seed: int) -> TreeCase:
    """The target gives a drawn token all but a few percent, and the draft gives it all."""
    logits = torch.zeros(1, 1300)
    logits[..., 7] = 10.5
    draft = torch.zeros(1, 1300)
    draft[..., 7] = 1
    return greedy_tree(
        candidates=int32([[0, 7]]),
        parents=int32([[-1, 0]]),
        n_nodes=int32([2]),
        row_indptr=int32([0, 1]),
        target_logits=logits,
        temperature=torch.ones(1),
        seed=torch.tensor([seed]),
        draft_probs=draft,
        draw=torch.tensor([[0, 1]], dtype=torch.uint8),
    )


def test_what_little_is_left_is_found_in_any_tile():
    """The pass over the row expects the token that has failed, scores above all others."""
    cases = map(likely_child, range(400))
    failed = [case for case in cases if ops.verify_tree(*case.arguments())[2] != 7][:8]
    assert len(failed) == 8
    for i, case in enumerate(failed):
        expected = outcome(ops.verify_tree(*case.arguments()))
        assert verify(case, SCHEDULES[i % 4]) == expected
