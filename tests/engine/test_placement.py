"""Where the two models run: what crosses between their devices, and a draft on CPU threads beside a
target on a stream."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM

from specbranch.costs.model import CostModel
from specbranch.engine import Engine, default_lanes
from specbranch.lanes import LaneError, MixedLanes, StreamLanes, ThreadLanes, VirtualLanes
from specbranch.lanes.virtual import VirtualPending
from specbranch.loading import pair as loading
from specbranch.policies import Autoregressive
from tests.engine import pretended_gpu, tiny
from tests.engine.test_identity import POLICIES, PROMPTS, params_of
from tests.engine.test_many import MIXES, texts

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
T = TypeVar("T")


@pytest.fixture(scope="module")
def pair():
    return tiny.pair(noise=0.15)


@pytest.fixture(scope="module")
def written_alone(pair):
    engine = Engine(pair, Autoregressive(), lanes=virtual(), max_len=128)
    wanted = [(prompt, params) for params in MIXES["gumbel"] for prompt in PROMPTS]
    return wanted, [engine.generate(*each).token_ids for each in wanted]


def virtual() -> VirtualLanes:
    return VirtualLanes(CostModel.parse("virtual:c=4"))


class Memory(TorchDispatchMode):
    """A device's memory: whatever work on it reads or writes. It stays, so that no address is seen
    twice."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, Any] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, results)):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.storages[storage.data_ptr()] = storage
        return results


class ApartLanes(VirtualLanes):
    """Lanes on devices of their own, under the virtual clock."""

    def __init__(self, costs: CostModel) -> None:
        super().__init__(costs)
        self.memories = {"draft": Memory(), "target": Memory()}
        for lane in (self.draft, self.target):
            lane.submit = self.apart(lane.name, lane.submit)  # type: ignore[method-assign]

    def apart(self, name: str, submit: Callable[..., VirtualPending[Any]]):
        def submitted(label: str, work: Callable[[], T], *, rows: int = 0) -> VirtualPending[T]:
            def within() -> T:
                with self.memories[name]:
                    return work()

            return submit(label, within, rows=rows)

        return submitted


def crossing(pair, policy: str, wanted) -> tuple[list[list[int]], int]:
    """The texts, and how many pieces of memory work of both lanes has touched."""
    lanes = ApartLanes(CostModel.parse("virtual:c=4"))
    engine = Engine(pair, POLICIES[policy](), lanes=lanes, max_len=128, max_nodes=32)
    written = texts(engine, wanted)
    draft, target = (memory.storages.keys() for memory in lanes.memories.values())
    assert len(draft) > 30
    assert len(target) > 30
    return written, len((draft & target) - {0})


@pytest.mark.parametrize("policy", ["sps", "specbranch", "bestfirst"])
def test_only_numbers_of_the_host_cross(pair, written_alone, policy):
    wanted, expected = written_alone
    assert crossing(pair, policy, wanted[:3]) == (expected[:3], 0)


def test_the_laws_of_draws_cross(pair):
    """Else the test above would see nothing."""
    _, shared = crossing(pair, "sps", [(PROMPTS[1], params_of("T=1", coupling="rejection"))])
    assert shared > 0


@pytest.mark.parametrize("policy", POLICIES)
def test_a_draft_on_threads_beside_a_target_on_a_stream(monkeypatch, pair, written_alone, policy):
    pretended_gpu.pretend_streams(monkeypatch)
    wanted, expected = written_alone
    with MixedLanes(CPU) as lanes:
        engine = Engine(pair, POLICIES[policy](), lanes=lanes, max_len=128)
        spans = engine.generate(PROMPTS[1], params_of("greedy")).trace.spans
        assert texts(engine, wanted) == expected
    assert {span.lane for span in spans} == {"draft", "target"}
    assert all(span.end >= span.start for span in spans)


def test_mixed_lanes_fail_and_end_as_others_do(monkeypatch):
    pretended_gpu.pretend_streams(monkeypatch)

    def fail() -> None:
        raise MemoryError("no more")

    with MixedLanes(CPU, 1) as lanes:
        for lane in (lanes.draft, lanes.target):
            with pytest.raises(LaneError, match=f"{lane.name} lane, x: MemoryError: no more"):
                lane.run("x", fail)
        lanes.drain()
        assert lanes.draft.threads == 1
    with pytest.raises(ValueError, match="draft_threads: expected 1 to"):
        MixedLanes(CPU, 0)


@pytest.mark.parametrize(
    ("draft", "target", "kind"),
    [(GPU, GPU, StreamLanes), (CPU, GPU, MixedLanes), (CPU, CPU, ThreadLanes)],
)
def test_lanes_are_where_the_models_are(monkeypatch, draft, target, kind):
    pretended_gpu.pretend_streams(monkeypatch)
    models = SimpleNamespace(device=target, draft=SimpleNamespace(device=draft))
    with default_lanes(models, overlap=True) as lanes:
        assert type(lanes) is kind


def test_models_are_loaded_where_they_run(monkeypatch, tmp_path):
    target, draft = tiny.save_pair(tmp_path)
    monkeypatch.setattr(loading, "check_device", lambda name, device: torch.device(device))
    loaded, load = [], AutoModelForCausalLM.from_pretrained

    def noted(source, **options):
        loaded.append(options.pop("device_map"))
        return load(source, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", noted)
    pair = loading.load_pair(str(target), str(draft), device="meta", draft_device="cpu")
    assert loaded == [{"": torch.device("meta")}, None]
    assert (pair.device.type, pair.draft.device) == ("meta", CPU)
    with pytest.raises(ValueError, match="draft_device: expected cpu like device, got cuda"):
        loading.load_pair(str(target), str(draft), draft_device="cuda")


def test_a_draft_made_of_the_target_is_made_of_a_copy_there():
    class Model(SimpleNamespace):
        def to(self, device):
            self.device = device
            return self

    model = Model(device=GPU)
    copied = loading._on(CPU, model)
    assert (model.device, copied.device) == (GPU, CPU)
    assert copied is not model
    assert loading._on(GPU, model) is model
