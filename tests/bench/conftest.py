"""A tiny pair on disk, whose tokenizer has a chat template."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine import tiny

TEMPLATE = "{% for m in messages %}{{ m['role'][0] + m['content'] + ' ' }}{% endfor %}"


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A target and a draft that often agrees with it."""
    return tiny.save_pair(tmp_path_factory.mktemp("models"), TEMPLATE)
