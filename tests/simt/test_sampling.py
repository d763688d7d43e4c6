"""sample, draft_topk and sampling_probs: the CUDA kernels against the CPU's and the reference."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specbranch import ops, reference
from specbranch.reference.sampling import rows_of
from tests.ops.cases import SamplingCase, generators, random_allowed, sampling_cases
from tests.ops.near_ties import is_clear_cut
from tests.ops.test_sample import assert_argmax
from tests.simt.device import SCHEDULES, Schedule
from tests.simt.sampling import SimulatedOps

schedules = st.sampled_from(SCHEDULES)
couplings = st.sampled_from(["gumbel", "rejection"])
# A tile has 512 tokens, a block 8192.
cases = st.one_of(sampling_cases(max_vocab=600), sampling_cases(max_vocab=9000))


def clear_rows(case: SamplingCase) -> list[int]:
    params = enumerate(rows_of(*case.filters()))
    return [r for r, p in params if is_clear_cut(case.logits[r], p)]


@settings(max_examples=15)
@given(case=cases, schedule=schedules)
def test_sample_is_that_of_the_cpu_and_the_reference(case, schedule):
    ids = SimulatedOps(schedule).sample(case.logits, *case.draws())
    rows = clear_rows(case)
    assert torch.equal(ids[rows], ops.sample(case.logits, *case.draws())[rows])
    expected = reference.sample(case.logits, *case.draws())
    for r in range(len(ids)):
        if ids[r] != expected[r]:
            assert_argmax(case, r, int(ids[r]))


@settings(max_examples=15)
@given(generator=generators(), case=cases, schedule=schedules)
def test_what_is_not_allowed_has_no_mass(generator, case, schedule):
    allowed, spoilt, seen = random_allowed(case.logits, generator)
    ids = SimulatedOps(schedule).sample(spoilt, *case.draws(), allowed)
    assert torch.equal(ids, SimulatedOps(schedule).sample(seen, *case.draws()))


@settings(max_examples=15)
@given(case=cases, schedule=schedules)
def test_sampling_probs_equals_reference(case, schedule):
    probs = SimulatedOps(schedule).sampling_probs(case.logits, *case.filters())
    expected = reference.sampling_probs(case.logits, *case.filters())
    for r in clear_rows(case):
        smallest = 2 * torch.finfo(torch.float32).tiny
        assert torch.equal(probs[r] > 0, expected[r] > smallest) or bool(
            (expected[r][(probs[r] > 0) != (expected[r] > 0)] < smallest).all()
        )
        torch.testing.assert_close(probs[r].double(), expected[r], rtol=5e-5, atol=smallest)


@settings(max_examples=25)
@given(case=cases, schedule=schedules, coupling=couplings, k=st.integers(1, 20))
def test_draft_topk_is_that_of_the_cpu(case, schedule, coupling, k):
    k = min(k, case.logits.shape[1])
    found = SimulatedOps(schedule).draft_topk(case.logits, k, *case.draws(), coupling)
    expected = ops.draft_topk(case.logits, k, *case.draws(), coupling)
    rows = clear_rows(case)
    assert torch.equal(found[0][rows], expected[0][rows])
    torch.testing.assert_close(found[1][rows], expected[1][rows], rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(found[2], expected[2], rtol=2e-5, atol=1e-7)
    torch.testing.assert_close(found[3], expected[3], rtol=1e-4, atol=2e-5)


@settings(max_examples=8)
@given(case=sampling_cases(max_vocab=1500), schedule=schedules, coupling=couplings)
def test_a_smaller_head_draws_with_the_targets_noise(case, schedule, coupling):
    vocab = case.logits.shape[1]
    token_ids = (5 * torch.arange(vocab).flip(0)).int()
    k = min(4, vocab)
    arguments = (case.logits, k, *case.draws(), coupling, token_ids)
    rows = clear_rows(case)
    found, expected = SimulatedOps(schedule).draft_topk(*arguments), ops.draft_topk(*arguments)
    assert torch.equal(found[0][rows], expected[0][rows])


@settings(max_examples=6)
@given(case=sampling_cases(max_vocab=1500), schedule=schedules)
def test_rejection_estimates_are_the_bits_of_sampling_probs(case, schedule):
    k = min(5, case.logits.shape[1])
    simulated = SimulatedOps(schedule)
    ids, estimates, _, _ = simulated.draft_topk(case.logits, k, *case.draws(), "rejection")
    probs = simulated.sampling_probs(case.logits, *case.filters())
    drawn = (ids >= 0) & (case.temperature > 0)[:, None]
    expected = probs.gather(1, ids.clamp(min=0).long())
    assert torch.equal(estimates[drawn], expected[drawn]), "q of the test is not q of the draw"


def plain_case(logits: torch.Tensor, **params: float) -> SamplingCase:
    values = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **params}
    rows = len(logits)
    tensors = {name: torch.tensor([value] * rows) for name, value in values.items()}
    tensors["top_k"] = tensors["top_k"].int()
    return SamplingCase(
        logits, **tensors, seed=torch.arange(rows), position=torch.arange(rows).int()
    )


BAD_ROWS = [[0.0, math.nan, 1.0], [-math.inf] * 3, [0.0, math.inf, 1.0]]


@pytest.mark.parametrize("params", [{}, {"temperature": 0.0}, {"top_p": 0.5, "top_k": 2}])
def test_rows_without_a_law(params):
    logits = torch.tensor([*BAD_ROWS, [0.0, 9.0, 0.0]])
    case = plain_case(torch.cat([logits, torch.full((4, 700), -math.inf)], 1), **params)
    simulated = SimulatedOps(SCHEDULES[2])
    assert simulated.sample(case.logits, *case.draws()).tolist() == [-1, -1, -1, 1]
    probs = simulated.sampling_probs(case.logits, *case.filters())
    assert probs.isnan().all(1).tolist() == [True, True, True, False]
    ids, estimates, max_prob, entropy = simulated.draft_topk(
        case.logits, 2, *case.draws(), "gumbel"
    )
    assert (ids[:3] == -1).all()
    assert (estimates[:3] == 0).all()
    assert max_prob[:3].isnan().all()
    assert entropy[:3].isnan().all()
    assert ids[3, 0] == 1


@pytest.mark.parametrize("params", [{}, {"top_k": 700}, {"top_p": 0.9}, {"temperature": 0.0}])
def test_ties_of_a_whole_row_go_to_the_lowest_id(params):
    case = plain_case(torch.zeros(2, 20_000, dtype=torch.bfloat16), **params)
    simulated = SimulatedOps(SCHEDULES[1])
    probs = simulated.sampling_probs(case.logits, *case.filters())
    kept = int((probs[0] > 0).sum())
    assert torch.equal(probs[0] > 0, torch.arange(20_000) < kept)
    assert kept == {"top_k": 700, "top_p": 18_000, "temperature": 1}.get(
        next(iter(params), ""), 20_000
    )
    expected = ops.sample(case.logits, *case.draws())
    assert torch.equal(simulated.sample(case.logits, *case.draws()), expected)


@pytest.mark.parametrize("k", [1, 8, 256])
def test_guesses_from_one_tile_and_from_many(k):
    generator = torch.Generator().manual_seed(k)
    spread = torch.randn(1, 12_000, generator=generator)
    lumped = spread - 40.0 * (torch.arange(12_000) > 600)
    case = plain_case(torch.cat([spread, lumped]), top_p=0.95)
    for coupling in ("gumbel", "rejection"):
        arguments = (case.logits, k, *case.draws(), coupling)
        found, expected = (
            SimulatedOps(SCHEDULES[2]).draft_topk(*arguments),
            ops.draft_topk(*arguments),
        )
        assert torch.equal(found[0], expected[0])
        torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-9)


def test_rows_do_not_know_each_other():
    generator = torch.Generator().manual_seed(0)
    case = plain_case(3 * torch.randn(3, 9_000, generator=generator), top_p=0.9)
    simulated = SimulatedOps(SCHEDULES[2])
    probs = simulated.sampling_probs(case.logits, *case.filters())
    for r in range(3):
        alone = simulated.sampling_probs(case.logits[r : r + 1], *(f[:1] for f in case.filters()))
        assert torch.equal(alone[0], probs[r])


def test_fewer_guesses_than_asked_for_are_padded():
    case = plain_case(torch.tensor([[0.0, -math.inf, 1.0, -math.inf]]))
    for coupling in ("gumbel", "rejection"):
        ids, estimates, _, _ = SimulatedOps(SCHEDULES[0]).draft_topk(
            case.logits, 4, *case.draws(), coupling
        )
        assert set(ids[0, :2].tolist()) == {0, 2}
        assert ids[0, 2:].tolist() == [-1, -1]
        assert estimates[0, 2:].tolist() == [0, 0]


def test_calls_of_any_sizes_and_ops_share_a_workspace():
    """The scratch of none lies where another has its tickets."""
    generator = torch.Generator().manual_seed(0)
    many, wide = (
        plain_case(torch.randn(shape, generator=generator)) for shape in ((64, 500), (1, 40_000))
    )
    simulated = SimulatedOps(Schedule())
    simulated.keep_workspace("draft_topk", 64, 40_000)
    for case in (many, wide, many):
        found = simulated.draft_topk(case.logits, 4, *case.draws(), "gumbel")
        assert torch.equal(found[0], ops.draft_topk(case.logits, 4, *case.draws(), "gumbel")[0])
        assert torch.equal(
            simulated.sample(case.logits, *case.draws()), ops.sample(case.logits, *case.draws())
        )
