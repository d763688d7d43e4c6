"""Forwards in buckets of rows, captured once and repeated on fixed memory."""

from __future__ import annotations

import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch

from specbranch.models import block_forward, cuda_graphs
from specbranch.models.cuda_graphs import CapturedForward, CudaCapture, buckets
from specbranch.models.runner import Prepare
from tests.engine.pretended_gpu import PretendedGpu, Stream, pretend
from tests.replaying_capture import Notes, ReplayingCapture

from . import tiny
from .single import Single

PROMPT = list(range(20, 45))
TREES = [[-1], [-1, 0, 0], [-1, 0, 0, 1, 2], [-1], [-1, 0, 0, 1, 2, 3, 3, 0, 6], [-1, 0]]


def make_runner(model, prepare: Prepare, *, feature_layers: int = 0) -> Single:
    return Single.of(
        model,
        max_len=64,
        max_nodes=12,
        page_size=8,
        feature_layers=feature_layers,
        prepare=prepare,
    )


def capturing(model, capture, **options) -> Single:
    """A runner whose unused keys and values are NaN, as a padding row might read or write them."""
    single = make_runner(
        model, lambda forward, buffers: CapturedForward(forward, buffers, capture), **options
    )
    for pool in (*single.runner.pool.k, *single.runner.pool.v):
        pool.fill_(torch.nan)
    return single


def eager(model, **options) -> Single:
    return make_runner(model, lambda forward, *_: forward, **options)


def test_buckets_are_powers_of_two_and_the_most():
    assert buckets(12) == [12, 8, 4, 2, 1]
    assert buckets(16) == [16, 8, 4, 2, 1]
    assert buckets(1) == [1]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_captured_forward_is_the_eager_one(family):
    """At every number of rows, context and tree, with padding rows and without."""
    model, capture = tiny.model(family), ReplayingCapture()
    runners = capturing(model, capture), eager(model)
    for context in (PROMPT[:3], PROMPT):
        for runner in runners:
            runner.reset()
            runner.prefill(context)
        for tree in TREES:
            tokens = [50 + node for node in range(len(tree))]
            got, wanted = (runner.forward(tokens, tree) for runner in runners)
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
            got, wanted = (runner.forward([60, 61, 62], [0, 0, 1]) for runner in runners)
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
            for runner in runners:
                runner.keep([0], 1)
    assert capture.rows == [12, 8, 4, 2, 1]
    assert capture.replays == 4 * len(TREES)


def test_logits_of_the_last_rows_and_features_of_all():
    model, capture = tiny.model("Llama"), ReplayingCapture()
    runners = capturing(model, capture, feature_layers=2), eager(model, feature_layers=2)
    got, wanted = (runner.forward(PROMPT[:7], [*range(-1, 6)], logits_rows=2) for runner in runners)
    torch.testing.assert_close(got, wanted)
    assert got.shape == (2, tiny.VOCAB_SIZE)
    torch.testing.assert_close(runners[0].runner.features, runners[1].runner.features)
    assert len(runners[0].runner.features) == 7
    assert runners[0].runner.next_positions.tolist() == [6, 7]


def test_padding_rows_write_no_key_or_value():
    capture = ReplayingCapture()
    runner = capturing(tiny.model("Llama"), capture)
    runner.forward(PROMPT[:9], [*range(-1, 8)])
    runner.keep(range(9), 9)
    before = [pool.clone() for pool in (*runner.runner.pool.k, *runner.runner.pool.v)]
    for _ in range(2):
        runner.forward([1, 2, 3, 4, 5], [-1, 0, 1, 2, 3])
        runner.keep([], 0)
    written = torch.zeros(before[0].shape[:2], dtype=torch.bool)
    written[runner.block.pages[1], 1:6] = True  # positions 9 to 13 of pages of 8
    for pool, old in zip((*runner.runner.pool.k, *runner.runner.pool.v), before, strict=True):
        assert torch.equal(pool[~written].isnan(), old[~written].isnan())
        torch.testing.assert_close(pool[~written], old[~written], rtol=0, atol=0, equal_nan=True)
        assert not pool[written].isnan().any()


def test_layers_attend_in_one_workspace_that_is_kept(monkeypatch):
    """So a layer is one launch of attention, none that zeroes a new workspace before it."""
    workspace = torch.zeros(1 << 20)
    monkeypatch.setattr(block_forward, "attention_workspace", lambda pool: workspace)
    with Notes() as notes:
        eager(tiny.model("Llama")).forward(PROMPT[:3], [-1, 0, 0])
    calls = {str(func): args for func, args, *_ in notes.operations}
    assert "specbranch.branch_attention.default" not in calls
    assert calls["specbranch.branch_attention_out.default"][-1] is workspace


def refused(work) -> None:
    """As torch.cuda.graph fails: leaving it raises another error."""
    try:
        raise KeyError("the cause")
    finally:
        raise RuntimeError("capture was invalidated")


def test_what_cannot_be_captured_runs_eagerly_and_is_told_once():
    model = tiny.model("Llama")
    runners = capturing(model, refused), eager(model)
    with pytest.warns(RuntimeWarning, match="of 12, 8, 4, 2, 1 rows: .* KeyError: 'the cause'"):
        got = runners[0].forward([5, 6], [-1, 0])
    assert torch.equal(got, runners[1].forward([5, 6], [-1, 0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = runners[0].forward([7], [1])
    assert torch.equal(got, runners[1].forward([7], [1]))


def test_a_bucket_that_cannot_be_captured_costs_that_bucket_alone():
    model, capture = tiny.model("Llama"), ReplayingCapture()

    def capture_all_but_4_rows(work):
        return refused(work) if work.args[0].shape[1] == 4 else capture(work)

    runners = capturing(model, capture_all_but_4_rows), eager(model)
    with pytest.warns(RuntimeWarning, match="of 4 rows"):
        got = runners[0].forward([5, 6], [-1, 0])
    assert torch.equal(got, runners[1].forward([5, 6], [-1, 0]))
    got, wanted = (runner.forward([7, 8, 9], [0, 0, 1]) for runner in runners)
    torch.testing.assert_close(got, wanted)
    assert capture.rows == [12, 8, 2, 1]
    assert capture.replays == 2


def test_forwards_larger_than_all_graphs_run_as_they_are(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "MOST_ROWS", 4)
    model, capture = tiny.model("Llama"), ReplayingCapture()
    runners = capturing(model, capture), eager(model)
    got, wanted = (runner.forward([1, 2, 3, 4, 5], [-1, 0, 0, 1, 1]) for runner in runners)
    assert torch.equal(got, wanted)
    assert capture.rows == [4, 2, 1]
    assert capture.replays == 0


def test_padding_rows_have_a_token_and_a_position():
    """RoPE may choose its angles by the largest position of a forward, so that one left over from
    another text would change all rows."""
    runner = capturing(tiny.model("Llama"), ReplayingCapture())
    runner.prefill(PROMPT)
    runner.forward(PROMPT[:7], [*range(-1, 6)])
    runner.keep([0], 1)
    runner.forward([5], [-1])
    buffers = runner.runner._forward_buffers.inputs
    assert buffers.position_ids[0].tolist() == [len(PROMPT) + 1] + 11 * [0]
    assert buffers.tokens[0].tolist() == [5] + 11 * [0]


@pytest.mark.parametrize("make", [eager, lambda model: capturing(model, ReplayingCapture())])
def test_a_token_may_be_read_where_a_device_wrote_it(make):
    """A negative one, which stands for no guess, is as harmless as any."""
    runner = make(tiny.model("Llama"))
    for written, token in ((7, 7), (-1, 0), (30, 30)):
        given = runner.forward([token], [-1]).clone()
        runner.keep([], 0)
        read = runner.forward([5], [-1], written=torch.tensor([written], dtype=torch.int32))
        assert torch.equal(read, given)
        runner.keep([0], 1)


def test_a_refused_forward_leaves_no_trace_of_itself():
    runner = capturing(tiny.model("Llama"), ReplayingCapture())
    first = runner.forward([5], [-1]).clone()
    with pytest.raises(ValueError, match="parents"):
        runner.forward([6], [4])
    runner.keep([], 0)
    assert torch.equal(runner.forward([5], [-1]), first)


class Graph:
    """What torch.cuda.CUDAGraph is to a capture."""

    def replay(self) -> None:
        self.notes.repeat()


@pytest.fixture
def captures(monkeypatch):
    """The arguments of every torch.cuda.graph."""
    pretend(monkeypatch)
    seen = []

    @contextmanager
    def capturing(graph, **arguments):
        assert not torch.is_inference_mode_enabled()
        assert PretendedGpu.current is arguments["stream"]
        seen.append(arguments)
        with Notes() as graph.notes:
            yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: object())
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: PretendedGpu.default)
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None, raising=False)
    return seen


def test_work_is_captured_on_the_lanes_stream_after_a_first_run(captures):
    memory, runs = torch.zeros(3), []

    def work():
        runs.append(PretendedGpu.current)
        return (memory + 1,)

    capture, lane = CudaCapture(torch.device("cpu")), Stream()
    with torch.inference_mode(), torch.cuda.stream(lane):
        replay, (output,) = capture(work)
        capture(work)
    assert runs == 4 * [lane]
    assert {arguments["stream"] for arguments in captures} == {lane}
    assert captures[0]["pool"] is captures[1]["pool"]
    memory.fill_(5)
    replay()
    assert output.tolist() == [6, 6, 6]
    assert len(runs) == 4


def test_a_graph_has_a_cublas_workspace_of_its_own(captures, monkeypatch):
    """One from before the capture, or left behind for others, would go with any other graph."""
    events = []
    monkeypatch.setattr(
        torch._C, "_cuda_clearCublasWorkspaces", lambda: events.append("clear"), raising=False
    )

    def work():
        events.append("work")
        return (torch.ones(1),)

    CudaCapture(torch.device("cpu"))(work)
    assert events == ["work", "clear", "work", "clear"]


def test_one_capture_at_a_time_in_a_process(captures):
    inside, most, barrier = [], [], threading.Barrier(2)

    def work():
        inside.append(1)
        time.sleep(0.02)
        most.append(len(inside))
        inside.pop()
        return (torch.ones(1),)

    def capture():
        barrier.wait()
        CudaCapture(torch.device("cpu"))(work)

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(capture) for _ in range(2)]:
            done.result()
    assert most == 4 * [1]


def test_the_default_stream_is_not_captured(captures):
    capture = CudaCapture(torch.device("cpu"))
    for _ in range(2):
        capture(lambda: (torch.ones(1),))
    (stream,) = {arguments["stream"] for arguments in captures}
    assert stream is not PretendedGpu.default
    assert PretendedGpu.current is PretendedGpu.default
