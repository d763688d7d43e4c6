"""These tests need a GPU and a build for it; elsewhere all of them are skipped, with one reason."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest
import torch

from specbranch import build_info


def missing() -> str | None:
    """What keeps these tests from running, None if nothing does."""
    if not torch.cuda.is_available():
        return "tests/cuda needs a GPU, and torch finds none"
    if not build_info()["cuda"]:
        return "tests/cuda needs a build with CUDA, and this one is for the CPU alone"
    return None


class SkippedModule(pytest.Module):
    """Tests that are not even imported."""

    def collect(self) -> NoReturn:
        pytest.skip(missing() or "", allow_module_level=True)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    return SkippedModule.from_parent(parent, path=module_path) if missing() else None
