"""The engine's CUDA path on a CPU that pretends: graphs, streams, pinned copies, host waits."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from specbranch.engine import Engine
from specbranch.lanes import LaneError, StreamLanes
from specbranch.models import runner as runner_module
from specbranch.models import transfers
from specbranch.models.fused import FusedForward
from specbranch.policies import PEARL, Autoregressive
from tests.engine import pretended_gpu, tiny
from tests.engine.test_identity import POLICIES, PROMPTS, params_of

CPU = torch.device("cpu")
SHORT = {"max_new_tokens": 20}
SETTINGS = {
    "greedy": params_of("greedy", **SHORT),
    "all": params_of("all", **SHORT),
    "rejection": params_of("greedy", coupling="rejection", **SHORT),
}


@pytest.fixture
def gpu(monkeypatch):
    return pretended_gpu.pretend(monkeypatch)


@pytest.fixture(scope="module")
def pair():
    return tiny.pair(noise=0.15)


@pytest.fixture(scope="module")
def written_alone(pair):
    """What the target writes by itself, without graphs."""
    engine = Engine(pair, Autoregressive(), max_len=256)
    return {name: engine.generate(PROMPTS[1], SETTINGS[name]).token_ids for name in SETTINGS}


def stream_engine(pair, policy, **options) -> Engine:
    return Engine(pair, policy, lanes=StreamLanes(CPU, CPU), max_len=256, **options)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_writes_what_the_target_alone_writes(
    gpu, pair, written_alone, policy, setting
):
    engine = stream_engine(pair, POLICIES[policy]())
    assert engine.generate(PROMPTS[1], SETTINGS[setting]).token_ids == written_alone[setting]
    before = [list(capture.rows) for capture in gpu.captures]
    assert engine.generate(PROMPTS[1], SETTINGS[setting]).token_ids == written_alone[setting]
    assert [capture.rows for capture in gpu.captures] == before, "a bucket was captured twice"


def test_what_is_captured_is_the_fused_forward(gpu, pair):
    engine = stream_engine(pair, PEARL())
    engine.generate(PROMPTS[1], SETTINGS["greedy"])
    assert isinstance(engine._target._forward._forward, FusedForward)


@pytest.mark.parametrize("policy", ["sps", "specbranch", "bestfirst"])
def test_laws_outlive_the_forwards_that_they_came_from(gpu, pair, policy, monkeypatch):
    """Under rejection a draft's laws are tested rounds later, when its logits are long gone."""
    params = params_of("T=1", coupling="rejection", **SHORT)
    captured = stream_engine(pair, POLICIES[policy]()).generate(PROMPTS[1], params)
    monkeypatch.setattr(runner_module, "prepared", lambda forward, *_: forward)
    eager = stream_engine(pair, POLICIES[policy]()).generate(PROMPTS[1], params)
    assert captured.token_ids == eager.token_ids


@pytest.mark.parametrize("policy", POLICIES)
def test_the_host_waits_once_a_draft_step_and_once_a_target_forward(gpu, pair, policy):
    engine = stream_engine(pair, POLICIES[policy]())
    for params in SETTINGS.values():
        before = gpu.waits
        stats = engine.generate(PROMPTS[1], params).stats
        assert gpu.waits - before <= stats.draft_forwards + stats.target_forwards


def test_a_chain_of_known_length_is_waited_for_once(gpu, pair):
    """Its steps hand their guesses on in device memory."""
    engine = stream_engine(pair, POLICIES["sps"]())
    before = gpu.waits
    stats = engine.generate(PROMPTS[1], SETTINGS["all"]).stats
    assert stats.draft_forwards > 2 * stats.target_forwards
    assert gpu.waits - before <= 2 * stats.target_forwards


def test_a_small_block_has_a_last_bucket_of_its_own_size(gpu, pair, written_alone):
    engine = stream_engine(pair, POLICIES["bestfirst-wide"](), max_nodes=11, max_requests=1)
    assert engine.generate(PROMPTS[1], SETTINGS["all"]).token_ids == written_alone["all"]
    assert [capture.rows for capture in gpu.captures] == [[11, 8, 4, 2, 1]] * 2


def test_lanes_overlap_and_say_so(gpu, pair):
    generation = stream_engine(pair, PEARL()).generate(PROMPTS[1], SETTINGS["greedy"])
    labels = {(span.lane, span.label) for span in generation.trace.spans}
    assert labels == {
        *((lane, "commit") for lane in ("draft", "target")),
        *((lane, "prefill") for lane in ("draft", "target")),
        *(("target", work) for work in ("target", "verify")),
        ("draft", "draft"),
    }
    forwards = [span for span in generation.trace.spans if span.label == "target"]
    assert len(forwards) == generation.stats.target_forwards
    assert gpu.ranges.count("round") == generation.stats.target_forwards
    assert {"draft: draft", "target: target", "target: verify"} <= set(gpu.ranges)


def test_the_draft_goes_first(gpu):
    lanes = StreamLanes(CPU, CPU)
    assert lanes.draft.stream.priority < lanes.target.stream.priority


def test_an_error_is_raised_where_its_result_is_asked_for(gpu):
    lanes = StreamLanes(CPU, CPU)

    def fail() -> None:
        raise MemoryError("no more")

    pending = lanes.target.submit("prefill", fail)
    with pytest.raises(LaneError, match="target lane, prefill: MemoryError: no more"):
        pending.result()
    assert lanes.target.run("next", lambda: 7) == 7
    lanes.drain()


def test_work_is_done_when_its_kernels_have_run(gpu):
    lanes = StreamLanes(CPU, CPU)
    trace = lanes.begin()
    pending = lanes.target.submit("target", lambda: "launched", rows=2)
    assert pending.result() == "launched"
    assert not pending.done()
    assert trace.spans == []
    lanes.drain()
    assert pending.done()
    assert [(span.label, span.rows) for span in trace.spans] == [("target", 2)]


def test_a_pinned_buffer_is_filled_again_only_when_its_copy_has_ended(gpu):
    upload = transfers.PinnedUpload(2, torch.int32, CPU)
    buffers = []
    for number in range(transfers.RING):
        buffers.append(upload.values())
        buffers[-1][:] = number
        upload.send()
        assert upload.tensor.tolist() == [number, number]
    assert gpu.waits == 0
    assert len({buffer.ctypes.data for buffer in buffers}) == transfers.RING
    again = upload.values()
    assert gpu.waits == 1
    assert again.ctypes.data == buffers[0].ctypes.data


def test_a_download_waits_for_its_own_copy(gpu):
    download = transfers.PinnedDownload(3, torch.int32, CPU)
    download.tensor.copy_(torch.tensor([4, 5, 6]))
    assert download.fetch().tolist() == [4, 5, 6]
    assert gpu.waits == 1


class Launches(TorchDispatchMode):
    """The streams that operations on tensors were launched on."""

    def __init__(self, gpu) -> None:
        super().__init__()
        self._gpu = gpu
        self.on_default: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self._gpu.current is self._gpu.default:
            self.on_default.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("policy", ["specbranch", "bestfirst"])
@pytest.mark.parametrize("setting", ["all", "rejection"])
def test_all_work_of_requests_is_on_the_lanes_and_waits_for_no_other(gpu, pair, policy, setting):
    """The default stream is the application's own."""
    engine = stream_engine(pair, POLICIES[policy]())
    stream = engine.stream(PROMPTS[1], SETTINGS[setting])
    next(stream)
    gpu.default.launched += 1
    with Launches(gpu) as launches:
        for _ in stream:
            pass
    assert launches.on_default == []
    lanes = engine.lanes.draft, engine.lanes.target
    assert not [behind for lane in lanes for _, behind, tick in lane.stream.behind if tick]


def test_a_lane_sees_what_was_there_before_its_trace_began(gpu):
    gpu.default.launched += 1
    lanes = StreamLanes(CPU, CPU)
    lanes.begin()
    assert (gpu.default, gpu.default.launched) in [each[1:] for each in lanes.draft.stream.behind]


def test_events_serve_again(gpu):
    lanes = StreamLanes(CPU, CPU)
    lanes.begin()
    first = lanes.target.submit("first", lambda: 1)
    events = first.events
    lanes.drain()
    assert first.done()
    second = lanes.target.submit("second", lambda: 2)
    assert second.events is events
    assert not second.done()
    assert first.done()


def test_a_dropped_engine_gives_its_memory_back_at_once(gpu, pair):
    """What it keeps between rounds refers to no runner that refers to it."""
    engine = stream_engine(pair, POLICIES["specbranch"]())
    engine.generate(PROMPTS[1], SETTINGS["all"])
    runner = weakref.ref(engine._target)
    gc.collect()
    gc.disable()
    try:
        del engine
        assert runner() is None
    finally:
        gc.enable()
