"""How prompts are read on a GPU: the same, through other kernels of torch's."""

from __future__ import annotations

import pytest
import torch

from specbranch.models import attention
from specbranch.models import runner as runner_module

from . import tiny
from .single import Single

PROMPT = list(range(10, 30))
FAMILIES = {"Llama": 3, "Mistral": 0}
"""Masks that are not made, one a chunk; all layers of the second have windows."""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_reads_without_a_mask_and_without_cudnn(family, monkeypatch):
    """cuDNN plans for every length of a prompt, a good part of a second each."""
    monkeypatch.setattr(runner_module, "PREFILL_CHUNK", 8)
    plain, forged = (
        Single.of(tiny.model(family), max_len=64, max_nodes=4, prepare=lambda forward, _: forward)
        for _ in range(2)
    )
    plain.prefill(PROMPT)
    cudnn_allowed, shapes, lower_right = [], [], attention.causal_lower_right

    def noted(rows, keys):
        cudnn_allowed.append(torch.backends.cuda.cudnn_sdp_enabled())
        shapes.append((rows, keys))
        return lower_right(rows, keys)

    monkeypatch.setattr(attention, "on_gpu", lambda tensor: True)
    monkeypatch.setattr(attention, "causal_lower_right", noted)
    forged.prefill(PROMPT)
    monkeypatch.setattr(attention, "on_gpu", lambda tensor: False)
    assert shapes == [(8, 8), (8, 16), (4, 20)][: FAMILIES[family]]
    assert not any(cudnn_allowed)
    assert torch.backends.cuda.cudnn_sdp_enabled()
    found, wanted = (single.forward([7], [-1]) for single in (forged, plain))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
