from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest
import torch
from torch import nn

from specbranch.loading.prepack import pack_linears
from specbranch.loading.quantized import quantize_model
from specbranch.models.traced import traced

from . import tiny
from .single import Single

PROMPT = list(range(20, 45))
TRACED = {1: [-1], 2: [-1, 0], 5: [-1, 0, 1, 1, 0]}  # by rows
TREES = [*TRACED.values(), [-1, 0, 0], [-1, 0, 0, 1, 2, 3, 3, 0, 6]]


def packed(family: str) -> nn.Module:
    model = tiny.model(family)
    pack_linears(model)
    return model


def quantized(family: str, bits: int) -> nn.Module:
    model = tiny.model(family).requires_grad_(False)
    quantize_model(model, bits)
    return model


MODELS = {family: lambda family=family: tiny.model(family) for family in tiny.FAMILIES} | {
    "packed": lambda: packed("Llama"),
    "q4": lambda: quantized("Llama", 4),
    "q8": lambda: quantized("Qwen2", 8),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return MODELS[request.param]()


@pytest.mark.parametrize("logits_rows", [None, 1])
@pytest.mark.parametrize("rows", TRACED)
def test_a_traced_forward_is_the_eager_one_to_the_bit(model, rows, logits_rows, monkeypatch):
    """Traced once, at any number of rows, and replayed at any other and any context."""
    sizes = {"max_len": 64, "max_nodes": 16, "page_size": 8}
    replaying = Single.of(model, **sizes)
    eager = Single.of(model, prepare=lambda forward, *_: forward, **sizes)
    traces = []

    def note(forward, inputs, state):
        traces.append(traced(forward, inputs, state))
        return traces[-1]

    monkeypatch.setattr("specbranch.models.runner.traced", note)
    for context in (PROMPT[:3], PROMPT):
        for tree in [TRACED[rows], *TREES]:
            logits = []
            for runner in (replaying, eager):
                runner.reset()
                runner.prefill(context)
                tokens = [50 + node for node in range(len(tree))]
                logits.append(runner.forward(tokens, tree, logits_rows))
                runner.keep([0], 1)
                logits.append(runner.forward([60, 61], [-1, 0]))
            assert torch.equal(logits[0], logits[2])
            assert torch.equal(logits[1], logits[3])
    assert len(traces) == 1
    assert traces[0] is not None


class LooksAtValues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1


class Plain(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.view(x.shape[0], -1) * 2, x


def test_what_depends_on_values_is_not_traced():
    assert traced(LooksAtValues(), (torch.ones(2),)) is None


class Slowly(nn.Module):
    """Lets other threads run while it does."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.002)
        return self.inner(x)


def test_threads_that_trace_at_once_do_not_disturb_each_other():
    """Whether a trace saw values is told by warnings, and catching those is process-wide."""
    together, refused, replays = threading.Barrier(2), [], []

    def trace(forward: nn.Module, results: list) -> None:
        for _ in range(20):
            together.wait(10)
            results.append(traced(forward, (torch.ones(2, 3),)))

    threads = [
        threading.Thread(target=trace, args=work)
        for work in ((Slowly(LooksAtValues()), refused), (Slowly(Plain()), replays))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [None] * 20
    assert len(replays) == 20
    assert all(replay is not None for replay in replays)


def test_what_depends_on_sizes_is_traced_for_all_sizes():
    replay = traced(Plain(), (torch.ones(2, 3),))
    assert [output.shape for output in replay(torch.ones(5, 4))] == [(5, 4), (5, 4)]


class Layered(nn.Module):
    """A packed layer, and a size that is asked for twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 3))
        pack_linears(self.layers.requires_grad_(False))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.layers(x).view(x.shape[0], -1), x.view(x.shape[0], -1)


def test_a_trace_is_one_graph_without_repetitions(monkeypatch):
    graphs, create = [], torch._C._create_function_from_graph
    monkeypatch.setattr(
        torch._C,
        "_create_function_from_graph",
        lambda name, graph: graphs.append(graph) or create(name, graph),
    )
    assert traced(Layered(), (torch.ones(2, 3),)) is not None
    kinds = [node.kind() for node in graphs[0].nodes()]
    assert not {"prim::CallMethod", "prim::CallFunction", "prim::GetAttr"} & set(kinds)
    assert kinds.count("aten::size") == 3  # ours, the packed layer's rows, and its result's shape


class Reads(nn.Module):
    """Four tensors of equal values: a parameter, a buffer, an attribute, and one beside them."""

    def __init__(self, beside: torch.Tensor) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(3), requires_grad=False)
        self.register_buffer("buffer", torch.zeros(3), persistent=False)
        self.attribute = torch.zeros(3)
        self.beside = (beside,)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x + self.parameter, x + self.buffer, x + self.attribute, x + self.beside[0]


def test_a_replay_sees_each_tensor_change():
    beside = torch.zeros(3)
    reads = Reads(beside)
    replay = traced(reads, (torch.ones(2, 3),), (beside,))
    for value, tensor in enumerate((reads.parameter, reads.buffer, reads.attribute, beside), 1):
        tensor.fill_(value)
    assert [output[0, 0].item() for output in replay(torch.ones(4, 3))] == [2, 3, 4, 5]


def test_a_trace_goes_with_its_replay():
    beside = torch.zeros(3)
    reads = Reads(beside)
    replay = traced(reads, (torch.ones(2, 3),), (beside,))
    replay(torch.ones(2, 3))
    tensors = [reads.parameter, reads.buffer, reads.attribute, beside]
    alive = [weakref.ref(tensor) for tensor in tensors]
    del beside, reads, tensors
    assert all(tensor() is not None for tensor in alive)
    del replay
    gc.collect()
    assert [tensor() for tensor in alive] == [None] * 4


def test_an_interrupt_while_tracing_is_not_swallowed():
    class Interrupted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        traced(Interrupted(), (torch.ones(2),))
