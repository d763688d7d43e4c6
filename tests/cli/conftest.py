"""Model folders on disk, a prompt file, and the command line as a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from specbranch.cli import app
from tests.engine import tiny

Invoke = Callable[..., Result]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A target and a draft that often agrees with it, both with the same tokenizer."""
    return tiny.save_pair(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def invoke(folders: tuple[Path, Path]) -> Invoke:
    """Run a command on the tiny models; errors that it does not expect are raised."""
    target, draft = map(str, folders)

    def run(command: str, *options: str, stdin: str | None = None) -> Result:
        arguments = [command, "--target", target, "--draft", draft, *options]
        return CliRunner().invoke(app, arguments, input=stdin, catch_exceptions=False)

    return run


@pytest.fixture
def prompt_file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    lines = [{"prompt": "hello"}, {"turns": ["speculate now", "and again"], "category": "chat"}]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path
