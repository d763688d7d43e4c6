from __future__ import annotations

import threading
import time

import pytest
import torch
from torch import nn

from specbranch.models.block_forward import BlockForward
from specbranch.models.prepack import pack_linears
from specbranch.models.quantize import quantized_draft
from specbranch.models.recorded import recorded
from specbranch.models.runner import ModelRunner

from . import tiny

PROMPT = list(range(20, 45))
RECORDED = {1: [-1], 2: [-1, 0], 5: [-1, 0, 1, 1, 0]}  # by rows
TREES = [*RECORDED.values(), [-1, 0, 0], [-1, 0, 0, 1, 2, 3, 3, 0, 6]]


def packed(family: str) -> nn.Module:
    model = tiny.model(family)
    pack_linears(model)
    return model


MODELS = {family: lambda family=family: tiny.model(family) for family in tiny.FAMILIES} | {
    "packed": lambda: packed("Llama"),
    "int4": lambda: quantized_draft(tiny.model("Llama").requires_grad_(False), "int4"),
    "int8": lambda: quantized_draft(tiny.model("Llama").requires_grad_(False), "int8"),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return MODELS[request.param]()


@pytest.mark.parametrize("logits_rows", [None, 1])
@pytest.mark.parametrize("rows", RECORDED)
def test_a_recorded_forward_is_the_eager_one_to_the_bit(model, rows, logits_rows, monkeypatch):
    """Recorded once, at any number of rows, and replayed at any other and any context."""
    replaying = ModelRunner(model, max_len=64, max_nodes=16, page_size=8)
    eager = ModelRunner(model, max_len=64, max_nodes=16, page_size=8)
    eager._forward_block = BlockForward(model, eager.cache)
    recordings = []

    def note(forward, inputs):
        recordings.append(recorded(forward, inputs))
        return recordings[-1]

    monkeypatch.setattr("specbranch.models.runner.recorded", note)
    for context in (PROMPT[:3], PROMPT):
        for tree in [RECORDED[rows], *TREES]:
            logits = []
            for runner in (replaying, eager):
                runner.reset()
                runner.prefill(context)
                tokens = [50 + node for node in range(len(tree))]
                logits.append(runner.forward(tokens, tree, logits_rows=logits_rows))
                runner.commit([0], 1)
                logits.append(runner.forward([60, 61], [-1, 0]))
            assert torch.equal(logits[0], logits[2])
            assert torch.equal(logits[1], logits[3])
    assert len(recordings) == 1
    assert recordings[0] is not None


class LooksAtValues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1


class Plain(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.view(x.shape[0], -1) * 2, x


def test_what_depends_on_values_is_not_recorded():
    assert recorded(LooksAtValues(), (torch.ones(2),)) is None


class Slowly(nn.Module):
    """Lets other threads run while it does."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.002)
        return self.inner(x)


def test_threads_that_record_at_once_do_not_disturb_each_other():
    """Whether a recording saw values is told by warnings, and catching those is process-wide."""
    together, refused, replays = threading.Barrier(2), [], []

    def record(forward: nn.Module, results: list) -> None:
        for _ in range(20):
            together.wait(10)
            results.append(recorded(forward, (torch.ones(2, 3),)))

    threads = [
        threading.Thread(target=record, args=work)
        for work in ((Slowly(LooksAtValues()), refused), (Slowly(Plain()), replays))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [None] * 20
    assert len(replays) == 20
    assert all(replay is not None for replay in replays)


def test_what_depends_on_sizes_is_recorded_for_all_sizes():
    replay = recorded(Plain(), (torch.ones(2, 3),))
    assert [output.shape for output in replay(torch.ones(5, 4))] == [(5, 4), (5, 4)]


class Twice(nn.Module):
    """A layer in another one, called twice on the same."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.layers(x), self.layers(x)


def test_a_recording_is_one_graph_without_repetitions(monkeypatch):
    traces, trace = [], torch.jit.trace
    monkeypatch.setattr(
        torch.jit,
        "trace",
        lambda *given, **options: traces.append(trace(*given, **options)) or traces[-1],
    )
    assert recorded(Twice().requires_grad_(False), (torch.ones(2, 3),)) is not None
    kinds = [node.kind() for node in traces[0].graph.nodes()]
    assert "prim::CallMethod" not in kinds
    assert kinds.count("prim::GetAttr") == 4  # both layers, weight, bias: once each


def test_a_replay_sees_weights_change():
    twice = Twice().requires_grad_(False)
    replay = recorded(twice, (torch.ones(2, 3),))
    twice.layers[0].weight.mul_(2)
    assert torch.equal(replay(torch.ones(4, 3))[0], twice(torch.ones(4, 3))[0])


def test_an_interrupt_while_recording_is_not_swallowed():
    class Interrupted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recorded(Interrupted(), (torch.ones(2),))
