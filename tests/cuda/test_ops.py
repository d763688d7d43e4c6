"""The tests of tests/ops with the ops on the GPU: against the reference, and the laws of draws.

They are the same functions with the same cases; only where the ops run differs.
"""

from __future__ import annotations

import pytest

from tests.cuda.on_device import OpsOnDevice
from tests.ops import (
    test_branch_attention,
    test_draft_topk,
    test_kv_cache,
    test_law_gumbel,
    test_law_rejection_draws,
    test_law_sample,
    test_layers,
    test_sample,
    test_sampling_probs,
    test_tree_mask,
    test_verify_tree,
)

MODULES = (
    test_branch_attention,
    test_draft_topk,
    test_kv_cache,
    test_law_gumbel,
    test_law_rejection_draws,
    test_law_sample,
    test_layers,
    test_sample,
    test_sampling_probs,
    test_tree_mask,
    test_verify_tree,
)
for _module in MODULES:
    _subject = _module.__name__.rpartition(".")[2]
    globals().update(
        (f"{_subject}_{name.removeprefix('test_')}", value)
        for name, value in vars(_module).items()
        if name.startswith("test_")
    )
    globals().pop(_subject)  # the module itself is no test


@pytest.fixture(autouse=True)
def ops_on_the_gpu(monkeypatch):
    for module in MODULES:
        monkeypatch.setattr(module, "ops", OpsOnDevice())
    drawn_here = test_law_sample.tokens_at.__wrapped__  # not those kept from the CPU
    monkeypatch.setattr(test_law_sample, "tokens_at", drawn_here)
