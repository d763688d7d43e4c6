"""`specbranch chat`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from specbranch.cli import app
from specbranch.engine import Engine
from specbranch.loading.pair import load_pair
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams
from tests.engine import tiny

TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


@pytest.fixture(scope="module")
def speakers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny.save_pair(tmp_path_factory.mktemp("speakers"), TEMPLATE)


def talk(speakers: tuple[Path, Path], *lines: str) -> Result:
    target, draft = map(str, speakers)
    command = ["chat", "--target", target, "--draft", draft, "-n", "12", "--max-len", "80"]
    typed = "".join(f"{line}\n" for line in lines)
    return CliRunner().invoke(app, command, input=typed, catch_exceptions=False)


def answers(speakers: tuple[Path, Path], *turns: str) -> list[str]:
    """What an engine says to the same turns."""
    pair, messages = load_pair(*map(str, speakers)), []
    with Engine(pair, make_policy("ar"), max_len=80) as engine:
        for turn in turns:
            messages.append({"role": "user", "content": turn})
            text = engine.generate(messages, SamplingParams(max_new_tokens=12)).text
            messages.append({"role": "assistant", "content": text})
    return [each["content"] for each in messages[1::2]]


def test_turns_follow_each_other_until_a_reset(speakers: tuple[Path, Path]) -> None:
    result = talk(speakers, "hello", "and now", "/reset", "hello", "/quit", "never read")
    assert result.exit_code == 0, result.output
    first, second = answers(speakers, "hello", "and now")
    assert result.stdout.splitlines() == [first, second, first]
    assert result.stderr.count("12 tokens, first after") == 3


def test_what_cannot_be_answered_is_said_and_forgotten(speakers: tuple[Path, Path]) -> None:
    result = talk(speakers, "a" * 100, "/what", "hello")
    assert result.exit_code == 0, result.output
    assert "error: max_new_tokens: expected prompt and output to fit 80" in result.stderr
    assert result.stderr.count("/reset begins anew") == 3  # at the start, with the error, for /what
    assert result.stdout.splitlines() == answers(speakers, "hello")


def test_a_model_without_a_template_cannot_chat(folders: tuple[Path, Path]) -> None:
    result = talk(folders, "hello")
    assert "the tokenizer has no chat template" in result.stderr
