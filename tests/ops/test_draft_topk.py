from __future__ import annotations

import math

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from specbranch import ops, reference
from specbranch.reference.noise import Stream, gumbel_noise
from specbranch.reference.sampling import SOFT_FILTER_PENALTY, allowed_tokens, log_law, rows_of
from tests.ops.cases import SamplingCase, generators, int32, sampling_cases
from tests.ops.near_ties import is_clear_cut, score_tolerance

COUPLINGS = ["gumbel", "rejection"]


def ranking(case: SamplingCase, r: int, coupling: str) -> torch.Tensor:
    """The scores z [V] by which the guesses of one row are ranked, float64."""
    params = list(rows_of(*case.filters()))[r]
    logits = case.logits[r].double()
    if params.temperature == 0:
        return logits
    noise = gumbel_noise(
        int(case.seed[r]), int(case.position[r]), torch.arange(len(logits)), Stream.GUMBEL
    )
    if coupling == "gumbel":
        soft = SOFT_FILTER_PENALTY * ~allowed_tokens(logits, params)
        return logits / params.temperature + noise - soft
    return log_law(logits, params) + noise


@settings(max_examples=400)
@given(
    case=sampling_cases(max_vocab=2000), k=st.integers(1, 20), coupling=st.sampled_from(COUPLINGS)
)
def test_equals_reference(case, k, coupling):
    k = min(k, case.logits.shape[1])
    ids, estimates, max_prob, entropy = ops.draft_topk(case.logits, k, *case.draws(), coupling)
    wanted = reference.draft_topk(case.logits, k, *case.draws(), coupling)
    torch.testing.assert_close(max_prob.double(), wanted[2], rtol=2e-5, atol=1e-7)
    torch.testing.assert_close(entropy.double(), wanted[3], rtol=1e-4, atol=2e-5)
    for r, params in enumerate(rows_of(*case.filters())):
        if not is_clear_cut(case.logits[r], params):
            event("a filter's edge within rounding")
            continue
        assert torch.equal(ids[r] == -1, wanted[0][r] == -1)
        found = ids[r][ids[r] >= 0].long()
        assert len(set(found.tolist())) == len(found)
        if not torch.equal(ids[r], wanted[0][r]):
            event("two scores within rounding")
            z = ranking(case, r, coupling)
            best = z.sort(descending=True).values[: len(found)]
            tolerance = score_tolerance(case.logits[r], params)
            torch.testing.assert_close(z[found], best, rtol=0, atol=tolerance)
        else:
            torch.testing.assert_close(estimates[r].double(), wanted[1][r], rtol=1e-4, atol=1e-9)


@given(generator=generators(), case=sampling_cases(), coupling=st.sampled_from(COUPLINGS))
def test_a_smaller_head_draws_with_the_targets_noise(generator, case, coupling):
    vocab = case.logits.shape[1]
    token_ids = torch.randperm(5 * vocab, generator=generator)[:vocab].int()
    case.logits = torch.randn(case.logits.shape, generator=generator)  # no ties
    k = min(4, vocab)
    ids, estimates, _, _ = ops.draft_topk(case.logits, k, *case.draws(), coupling, token_ids)
    wanted = reference.draft_topk(case.logits, k, *case.draws(), coupling, token_ids)
    rows = [r for r, p in enumerate(rows_of(*case.filters())) if is_clear_cut(case.logits[r], p)]
    assert torch.equal(ids[rows], wanted[0][rows])
    torch.testing.assert_close(estimates[rows].double(), wanted[1][rows], rtol=1e-4, atol=1e-9)


@given(case=sampling_cases())
def test_the_first_guess_of_a_perfect_draft_is_the_targets_token(case):
    target = ops.sample(case.logits, *case.draws())
    ids, _, _, _ = ops.draft_topk(
        case.logits,
        1,
        case.temperature,
        int32([0] * len(target)),
        torch.ones(len(target)),
        torch.zeros(len(target)),
        case.seed,
        case.position,
        "gumbel",
    )
    off = (case.top_k == 0) & (case.top_p == 1) & (case.min_p == 0)
    assert torch.equal(ids[off, 0], target[off])


@given(case=sampling_cases())
def test_rejection_estimates_are_the_law_of_sampling_probs(case):
    k = min(5, case.logits.shape[1])
    ids, estimates, _, _ = ops.draft_topk(case.logits, k, *case.draws(), "rejection")
    probs = ops.sampling_probs(case.logits, *case.filters())
    drawn = (ids >= 0) & (case.temperature > 0)[:, None]
    expected = probs.gather(1, ids.clamp(min=0).long())
    assert torch.equal(estimates[drawn], expected[drawn]), "q of the test is not q of the draw"


def guesses(logits, k, coupling, temperature=1.0, top_k=0):
    return ops.draft_topk(
        torch.tensor([logits]),
        k,
        torch.tensor([temperature]),
        int32([top_k]),
        torch.ones(1),
        torch.zeros(1),
        torch.tensor([5]),
        int32([9]),
        coupling,
    )


def test_temperature_zero_ranks_the_logits():
    for coupling in COUPLINGS:
        ids, estimates, max_prob, _ = guesses([0.0, 2.0, 1.0, 2.0], 3, coupling, temperature=0.0)
        assert ids.tolist() == [[1, 3, 2]]
        softmax = torch.tensor([0.0, 2.0, 1.0, 2.0]).softmax(-1)
        torch.testing.assert_close(estimates[0], softmax[[1, 3, 2]])
        torch.testing.assert_close(max_prob[0], softmax[1])


def test_fewer_guesses_than_asked_for_are_padded():
    logits = [0.0, -math.inf, 1.0, -math.inf]
    for coupling in COUPLINGS:
        ids, estimates, _, _ = guesses(logits, 4, coupling)
        assert ids[0, 2:].tolist() == [-1, -1]
        assert set(ids[0, :2].tolist()) == {0, 2}
        assert estimates[0, 2:].tolist() == [0, 0]
    ids, _, _, _ = guesses([0.0, 3.0, 1.0, 2.0], 4, "rejection", top_k=2)
    assert set(ids[0].tolist()) == {1, 3, -1}


@pytest.mark.parametrize("least", [-87.0, -87.5, -95.0, -103.0])
def test_draws_of_subnormal_weight_count(least):
    """They do on CUDA, where the law is the same."""
    logits = torch.tensor([[0.0, least]])
    filters = torch.ones(1), int32([0]), torch.ones(1), torch.zeros(1)
    ids, estimates, *_ = guesses([0.0, least], 2, "rejection")
    assert ids.tolist() == [[0, 1]]
    assert torch.equal(estimates, ops.sampling_probs(logits, *filters))
    weight = math.exp(least)
    assert float(estimates[0, 1]) == pytest.approx(weight, rel=1e-5, abs=2e-45)
    assert estimates[0, 1] > 0


def test_what_is_below_the_smallest_number_is_no_draw():
    ids, estimates, *_ = guesses([0.0, -105.0], 2, "rejection")
    assert (ids.tolist(), estimates.tolist()) == ([[0, -1]], [[1.0, 0.0]])


def test_the_soft_filter_lets_the_tail_through():
    ids, _, _, _ = guesses([0.0, 3.0, 1.0, 2.0], 4, "gumbel", top_k=1)
    assert sorted(ids[0].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("logits", [[math.nan, 1, 2], [-math.inf] * 3, [math.inf, 1, 2]])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_without_a_law_has_no_guess(coupling, logits, temperature):
    ids, estimates, max_prob, entropy = guesses(logits, 2, coupling, temperature)
    assert ids.tolist() == [[-1, -1]]
    assert estimates.tolist() == [[0, 0]]
    assert max_prob.isnan().all()
    assert entropy.isnan().all()
