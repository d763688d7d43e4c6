from __future__ import annotations

import pytest
import torch
from torch import nn

from specbranch.models.block_forward import BlockForward
from specbranch.models.capture import recorded
from specbranch.models.prepack import pack_linears
from specbranch.models.quantize import quantized_draft
from specbranch.models.runner import ModelRunner

from . import tiny

PROMPT = list(range(20, 45))
TREES = [[-1], [-1, 0], [-1, 0, 0], [-1, 0, 1, 1, 0], [-1, 0, 0, 1, 2, 3, 3, 0, 6]]


def packed(family: str) -> nn.Module:
    model = tiny.model(family)
    pack_linears(model)
    return model


MODELS = {family: lambda family=family: tiny.model(family) for family in tiny.FAMILIES} | {
    "packed": lambda: packed("Llama"),
    "int4": lambda: quantized_draft(tiny.model("Llama").requires_grad_(False), "int4"),
    "int8": lambda: quantized_draft(tiny.model("Llama").requires_grad_(False), "int8"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_recorded_forward_is_the_eager_one_to_the_bit(name, monkeypatch):
    """Recorded once, at five rows, and replayed at any number of rows and any context."""
    model = MODELS[name]()
    replaying = ModelRunner(model, max_len=64, max_nodes=16, page_size=8)
    eager = ModelRunner(model, max_len=64, max_nodes=16, page_size=8)
    eager._forward_block = BlockForward(model, eager.cache)
    recordings = []

    def note(forward, inputs):
        recordings.append(recorded(forward, inputs))
        return recordings[-1]

    monkeypatch.setattr("specbranch.models.runner.recorded", note)
    for context in (PROMPT[:3], PROMPT):
        for parents in [TREES[3], *TREES]:
            logits = []
            for runner in (replaying, eager):
                runner.reset()
                runner.prefill(context)
                tokens = [50 + node for node in range(len(parents))]
                logits.append(runner.forward(tokens, parents))
                runner.commit([0], 1)
                logits.append(runner.forward([60, 61], [-1, 0], logits_rows=1))
            assert torch.equal(logits[0], logits[2])
            assert torch.equal(logits[1], logits[3])
    assert len(recordings) == 1
    assert recordings[0] is not None


class LooksAtValues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1


class Plain(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0], -1) * 2


def test_what_depends_on_values_is_not_recorded():
    assert recorded(LooksAtValues(), (torch.ones(2),)) is None


def test_what_depends_on_sizes_is_recorded_for_all_sizes():
    replay = recorded(Plain(), (torch.ones(2, 3),))
    assert replay(torch.ones(5, 4)).shape == (5, 4)


def test_an_interrupt_while_recording_is_not_swallowed():
    class Interrupted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recorded(Interrupted(), (torch.ones(2),))
