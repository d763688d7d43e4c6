"""Where models run and in what, where nobody says, on a machine that seems to have a GPU."""

from __future__ import annotations

import pytest
import torch

from specbranch import _C
from specbranch.loading import placement

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.fixture
def gpu(monkeypatch):
    """Torch finds a GPU. Returns a function that says what the build was made with."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)

    def build(cuda: str) -> None:
        monkeypatch.setattr(_C, "build_info", lambda: {"cuda": cuda})

    return build


def test_a_gpu_is_used_where_there_is_one(gpu):
    gpu("13.0")
    assert placement.default_device() == "cuda"
    assert placement.default_device("q4") == "cpu"
    assert placement.default_dtype(GPU) == torch.bfloat16
    assert placement.default_dtype(CPU) == torch.float32


def test_cpu_is_the_default_elsewhere(monkeypatch, recwarn):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert placement.default_device() == "cpu"
    assert not recwarn


def test_a_build_that_cannot_use_the_gpu_is_told(gpu):
    gpu("")
    with pytest.warns(UserWarning, match="there is a GPU: specbranch was built without CUDA"):
        assert placement.default_device() == "cpu"
    with pytest.raises(ValueError, match=r"device: cuda cannot be used: .* without CUDA kernels"):
        placement.check_device("device", "cuda")


def test_a_device_is_called_as_tensors_call_it(gpu):
    """Or what is there already would be copied there."""
    gpu("13.0")
    assert placement.check_device("device", "cuda") == GPU
    assert placement.check_device("device", "cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("target", "weights", "device", "draft", "draft_device"),
    [
        ("builtin:smollm2", None, CPU, "self:int4", CPU),
        ("builtin:smollm2", "q8", CPU, "self:int4", CPU),
        ("builtin:smollm2", "q4", CPU, "builtin:smollm2-draft-10", CPU),
        ("some/model", "q4", CPU, "self:int4", CPU),
        ("builtin:smollm2", None, GPU, "builtin:smollm2-draft", GPU),
        ("some/model", None, GPU, "self:int4", CPU),
    ],
)
def test_every_target_has_a_draft_that_can_run(target, weights, device, draft, draft_device):
    assert placement.default_draft(target, weights, device) == draft
    assert placement.default_draft_device(draft, None, device) == draft_device
    assert placement.default_draft_device(draft, "q8", device) == CPU
