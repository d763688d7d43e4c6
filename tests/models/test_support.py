"""Models whose masks or rotations are their own affair are right or refused in words."""

from __future__ import annotations

import pytest
import torch

from specbranch.loading.prepack import pack_linears
from specbranch.models import ModelRunner
from specbranch.models.support import kv_shape

from . import tiny
from .single import Single

WINDOWED = {
    "Phimoe": {"sliding_window": tiny.WINDOW},
    "Qwen2Moe": {
        "use_sliding_window": True,
        "sliding_window": tiny.WINDOW,
        "max_window_layers": 1,
    },
}


@pytest.mark.parametrize("family", WINDOWED)
def test_windows_in_the_mask_alone_are_refused(family):
    with pytest.raises(ValueError, match=f"got {family}ForCausalLM, which has them in its mask"):
        kv_shape(tiny.model(family, **WINDOWED[family]))


@pytest.mark.parametrize(
    ("family", "settings"), [("Phimoe", {"sliding_window": None}), ("Qwen2Moe", {})]
)
def test_the_same_families_without_windows_are_right(family, settings):
    model, text = tiny.model(family, **settings), list(range(20, 50))
    runner = Single.of(model, max_len=64, max_nodes=32)
    runner.prefill(text[:20])
    got = runner.forward(text[20:], [*range(-1, 9)])
    wanted = tiny.logits(tiny.eager(model), text)[20:]
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_mask_of_the_models_own_is_refused():
    runner = Single.of(tiny.model("Doge"), max_len=64, max_nodes=8)
    with pytest.raises(ValueError, match="DogeAttention builds a mask of its own"):
        runner.forward([1, 2], [-1, 0])


@pytest.mark.parametrize("family", ["Gemma2", "Gemma3"])
def test_models_that_look_ahead_are_refused(family):
    with pytest.raises(ValueError, match=f"got {family}ForCausalLM that looks ahead"):
        kv_shape(tiny.model(family, use_bidirectional_attention=True))


def longrope(short: float = 1.5, long: float = 3.0):
    factors = {"short_factor": [short] * 8, "long_factor": [long] * 8}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, **factors}
    return tiny.model("Phi3", rope_parameters=rope, original_max_position_embeddings=80)


def dynamic():
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    return tiny.model("Llama", rope_parameters=rope, max_position_embeddings=80)


@pytest.mark.parametrize("packs", [True, False], ids=["one call", "eager"])
@pytest.mark.parametrize("make", [longrope, dynamic])
def test_rotations_that_change_with_the_length(make, packs):
    """Right up to the last position of the first kind, in any company; beyond it refused."""
    model, text = make(), [7 + place % 80 for place in range(80)]
    wanted = tiny.logits(tiny.eager(model), text)
    other = tiny.logits(tiny.eager(model), text[:10])
    if packs:
        pack_linears(model)
    runner = ModelRunner(model, max_requests=2, max_len=2000, max_nodes=16)
    assert runner.max_positions == runner.max_len == 64
    long, short = Single(runner), Single(runner)
    long.prefill(text[:40])
    long.prefill(text[40:64])
    got = long.forward(text[64:], [*range(-1, 15)])
    torch.testing.assert_close(got, wanted[64:], rtol=1e-4, atol=1e-4)
    got = short.forward(text[:10], [*range(-1, 9)])
    torch.testing.assert_close(got, other, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="max_len: expected at most 64, got 65"):
        runner.open(65)
    with pytest.raises(ValueError, match="max_nodes: expected less than 80, where the RoPE of"):
        ModelRunner(model, max_len=8, max_nodes=80)
