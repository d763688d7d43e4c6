"""Penalties, biases and least lengths beside plain `model.generate`."""

from __future__ import annotations

import pytest
import torch

from tests.adapters.plain import GREEDY, MASK, ONE, PAD, ROWS, same
from tests.engine import tiny

EOS = 3


@pytest.mark.parametrize(
    "asked",
    [
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.7},
        {"sequence_bias": [[[5], 6.0], [[9], float("-inf")]]},
        {"repetition_penalty": 1.2, "sequence_bias": [[[5], 6.0]], "renormalize_logits": True},
    ],
)
def test_the_same_tokens(model, ours, asked):
    plain = model.generate(ONE, **GREEDY)
    assert not torch.equal(same(model, ours, ONE, **GREEDY, **asked), plain)
    same(model, ours, ROWS, attention_mask=MASK, **GREEDY, **asked)


@pytest.mark.parametrize("asked", [{"min_new_tokens": 9}, {"min_length": 12}])
def test_no_end_comes_too_early(model, ours, asked):
    ends = sorted({*model.generate(ONE, **GREEDY)[0, ONE.shape[1] :].tolist()[:4], PAD})
    ended = {**GREEDY, "eos_token_id": ends}
    assert model.generate(ONE, **ended).shape[1] < ONE.shape[1] + 4
    text = same(model, ours, ONE, **ended, **asked, repetition_penalty=1.1)
    assert text.shape[1] > 11
    same(model, ours, ROWS, attention_mask=MASK, **ended, **asked)


def test_a_models_own_config_is_followed(draft):
    """Many models ship a repetition penalty there."""
    import specbranch

    shipped = tiny.model()
    shipped.generation_config.repetition_penalty = 1.3
    plain = tiny.model().generate(ONE, **GREEDY)
    assert not torch.equal(same(shipped, specbranch.generate(draft), ONE, **GREEDY), plain)
