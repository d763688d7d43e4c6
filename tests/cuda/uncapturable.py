"""Generates with a model that no CUDA graph takes: the program of a test.

In a process of its own, for there are versions of torch that a failed capture leaves unable to
capture anything else.
"""

from __future__ import annotations

import warnings

import torch

from specbranch.engine import Engine
from specbranch.policies import Autoregressive
from tests.cuda.test_engine import assert_same_text, on_gpu
from tests.engine import tiny
from tests.engine.test_identity import PROMPTS, params_of


def main() -> None:
    pair, params = on_gpu(tiny.pair(noise=0.15)), params_of("greedy")
    alone = Engine(pair, Autoregressive(), max_len=256).generate(PROMPTS[1], params)
    norm = pair.target.model.norm
    original = norm.forward

    def waits(hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states.sum().item()
        return original(hidden_states)

    norm.forward = waits
    with warnings.catch_warnings(record=True) as caught:
        found = Engine(pair, Autoregressive(), max_len=256).generate(PROMPTS[1], params)
    assert any("no CUDA graphs" in str(each.message) for each in caught)
    assert_same_text(pair, found, alone, params)


if __name__ == "__main__":
    main()
