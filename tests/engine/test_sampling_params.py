from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from specbranch.sampling import SamplingParams


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", "1"),
        ("temperature", 1e39),
        ("temperature", 10**400),
        ("temperature", 1e-46),
        ("temperature", Fraction(1, 2)),
        ("top_p", 1e-46),
        ("top_p", Fraction(9, 10)),
        ("min_p", 1e-46),
        ("repetition_penalty", 1e39),
        ("logit_bias", {5: 1e39}),
        ("top_k", -1),
        ("top_k", 2.5),
        ("top_k", 2**31),
        ("top_k", None),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("min_p", -0.5),
        ("min_p", [0.1]),
        ("seed", 2**63),
        ("seed", 0.5),
        ("coupling", "maximal"),
        ("max_new_tokens", -1),
        ("max_new_tokens", 10.5),
        ("stop", "end"),
        ("stop", None),
        ("stop", [1]),
        ("stop", ["end", ""]),
        ("eos_token_ids", 5),
        ("eos_token_ids", ["5"]),
        ("frequency_penalty", 2.1),
        ("presence_penalty", "1"),
        ("presence_penalty", float("inf")),
        ("repetition_penalty", 0),
        ("logit_bias", [5]),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {"5": 1.0}),
        ("logit_bias", {5: float("inf")}),
        ("min_new_tokens", -1),
        ("logprobs", -1),
    ],
)
def test_bad_values_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=rf"^{field}: expected .*, got ") as refusal:
        SamplingParams(**{field: value})
    assert str(refusal.value).endswith(repr(value))


def test_numbers_of_other_libraries_are_taken():
    params = SamplingParams(np.float32(0.5), top_k=np.int64(4), eos_token_ids=np.arange(3).tolist())
    assert params.top_k == 4


def test_greedy_decoding_draws_nothing():
    assert SamplingParams(coupling="rejection").effective_coupling == "gumbel"
    assert SamplingParams(0.5, coupling="rejection").effective_coupling == "rejection"
