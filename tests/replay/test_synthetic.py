"""Synthetic acceptance, and schedules whose speed has a closed form."""

from __future__ import annotations

import math
from statistics import fmean, pstdev

import pytest

from specbranch.costs.model import CostModel
from specbranch.policies import PEARL, Autoregressive, BestFirst, SpecBranch, SpeculativeSampling
from specbranch.replay import Place, Replayer, SyntheticLaws, rank_rates, synthetic_recording

TOKENS = 2000


def run(policy, agreement, c, *, concentration=None, seed=1, tokens=TOKENS):
    laws = SyntheticLaws(rank_rates(agreement), concentration=concentration, seed=seed)
    replayer = Replayer(policy, CostModel.parse(f"virtual:c={c}"))
    return replayer.replay(synthetic_recording(tokens), laws).stats


def standard_error(stats) -> float:
    """Of the mean accepted length, as if rounds were independent."""
    return pstdev(stats.accepted_lengths) / math.sqrt(stats.target_forwards)


def require_speedup(stats, c, tokens_per_round, seconds_per_round):
    """The speedup is as said, within four standard errors of the tokens of a round."""
    speedup = stats.tokens * c / stats.wall_s
    error = 4 * standard_error(stats) * c / seconds_per_round
    assert speedup == pytest.approx(tokens_per_round * c / seconds_per_round, abs=error + 0.01)


def test_plain_decoding_is_the_unit():
    stats = run(Autoregressive(), 0.7, 8)
    assert stats.wall_s == 8 * TOKENS


@pytest.mark.parametrize("agreement", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(("gamma", "c"), [(4, 10), (10, 6)])
def test_speculative_sampling(agreement, gamma, c):
    """Leviathan et al. 2023, theorem 3.8: (1 - a^(g+1)) / ((1 - a)(g/c + 1))."""
    stats = run(SpeculativeSampling(gamma), agreement, c)
    tokens = (1 - agreement ** (gamma + 1)) / (1 - agreement)
    require_speedup(stats, c, tokens, gamma + c)


@pytest.mark.parametrize("agreement", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(("gamma", "c"), [(4, 8), (10, 6)])
def test_pearl(agreement, gamma, c):
    """A chain of two states. Without pending guesses (pre-verify) a round commits one token, and
    guesses are pending afterwards if the draft's first was right: rate a. With them (post-verify)
    it commits up to g, (1 - a^g) / (1 - a) on average, and they are pending again if all g were
    right: rate a^g. The stationary law weighs the two as (1 - a^g) to a. The draft never keeps the
    target waiting, so g = min(gamma, c) guesses come of a round, which takes c."""
    stats = run(PEARL(gamma), agreement, c)
    all_right = agreement ** min(gamma, c)
    pre_verify = (1 - all_right) / (1 - all_right + agreement)
    post_verify_tokens = (1 - all_right) / (1 - agreement)
    tokens = pre_verify + (1 - pre_verify) * post_verify_tokens
    require_speedup(stats, c, tokens, c)


@pytest.mark.parametrize("concentration", [None, 2.0])
def test_the_first_guess_is_right_at_the_agreed_rate(concentration):
    stats = run(SpeculativeSampling(4), 0.7, 8, concentration=concentration)
    error = 4 * math.sqrt(0.7 * 0.3 / stats.tested)
    assert stats.acceptance_rate == pytest.approx(0.7, abs=error)


def test_every_rank_is_right_at_its_rate_and_knows_it():
    rates = rank_rates(0.5, 4)
    laws = SyntheticLaws(rates, concentration=3.0, seed=5).laws([Place(i) for i in range(4000)])
    for rank, rate in enumerate(rates):
        right = fmean(law.ids[rank] == 0 for law in laws)
        assert right == pytest.approx(rate, abs=0.04)
        assert fmean(law.estimates[rank] for law in laws) == pytest.approx(rate, abs=0.04)
    sure = [law for law in laws if law.estimates[0] > 0.8]
    assert fmean(law.ids[0] == 0 for law in sure) > 0.8
    assert all(len(set(law.ids)) == 4 for law in laws)


def test_nothing_is_right_after_a_wrong_guess():
    places = [Place(0, (3, *tail)) for tail in [(), (1,), (2, 0), (0, 0, 1)]]
    assert all(0 not in law.ids for law in SyntheticLaws([0.9]).laws(places))


def test_rank_rates_are_what_a_real_pair_showed():
    rates = rank_rates(0.747)
    for guesses, seen in ((1, 0.747), (4, 0.923), (8, 0.955)):
        assert sum(rates[:guesses]) == pytest.approx(seen, abs=0.005)


def test_one_seed_one_draft():
    places = [Place(0), Place(3, (1, 2))]
    first, again, other = (SyntheticLaws([0.5], seed=s).laws(places) for s in (1, 1, 2))
    assert first == again
    varied = (SyntheticLaws([0.5], concentration=2.0, seed=s).laws(places) for s in (1, 2))
    assert next(varied) != next(varied)
    assert {law.ids[0] for law in (*first, *other)} <= {0, 1}


def test_branches_pay_where_the_draft_is_unsure():
    """More hedging, more speed: the order of the methods on a draft that is right half the time."""
    speed = {
        policy.name: 1 / run(policy, 0.5, 8, concentration=2.0, tokens=500).wall_s
        for policy in (PEARL(8), SpecBranch(gamma=8), BestFirst(8, 32))
    }
    assert speed["pearl"] < speed["specbranch"] < speed["bestfirst"]


@pytest.mark.parametrize("rates", [[], [0.0], [1.2], [0.6, 0.5], [0.5, -0.1], [0.01] * 17])
def test_rates_that_are_no_chances_are_refused(rates):
    with pytest.raises(ValueError, match="rates: expected"):
        SyntheticLaws(rates)


def test_a_concentration_must_be_positive():
    with pytest.raises(ValueError, match="concentration: expected"):
        SyntheticLaws([0.5], concentration=0.0)
