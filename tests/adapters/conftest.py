"""A model, its draft, and what decodes with them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import specbranch
from specbranch.lanes import ThreadLanes
from tests.adapters.plain import PAD
from tests.engine import tiny
from tests.threads import one_thread

__all__ = ["one_thread"]


@pytest.fixture(autouse=True, scope="package")
def single_threads() -> Iterator[None]:
    """A thread a model: two of one would wait for each other where cores are busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("specbranch.engine.default_lanes", lambda *_: ThreadLanes(1, 1))
        yield


@pytest.fixture(scope="module")
def model():
    made = tiny.model()
    made.generation_config.pad_token_id = PAD
    return made


@pytest.fixture(scope="module")
def draft(model):
    return tiny.noisy(model, 0.2)


@pytest.fixture(scope="module")
def ours(draft):
    return specbranch.generate(draft, method="bestfirst")
