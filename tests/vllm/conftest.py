"""Tests in an environment that has vLLM (`make test-vllm`); in others there are none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

if importlib.util.find_spec("vllm") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny target with heads of a size that vLLM has kernels for, and a draft."""
    from tests.engine import tiny

    root = tmp_path_factory.mktemp("tiny")
    target = tiny.model(heads=2)
    for name, model in (("target", target), ("draft", tiny.noisy(target, 0.2))):
        model.save_pretrained(root / name)
        tiny.tokenizer().save_pretrained(root / name)
    return root / "target", root / "draft"
