"""Texts that follow a JSON schema, from a shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import GenerationConfig
from typer.testing import CliRunner

from specbranch.cli import app
from tests.cli.conftest import Invoke
from tests.engine import test_json_schema as characters
from tests.engine import tiny

SPACE = characters.CHARS.index(" ")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "whole": {"type": "boolean"}},
    "required": ["name", "whole"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("text", ["[1]", '{"type": "nothing"}'])
def test_what_is_no_schema_is_refused(invoke: Invoke, tmp_path: Path, text: str) -> None:
    path = tmp_path / "schema.json"
    path.write_text(text)
    result = invoke("generate", "hello", "--json-schema", str(path))
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "json_schema: expected" in line


@pytest.fixture(scope="module")
def speakers(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Models whose tokens are the characters of JSON."""
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    speaker = characters.tokenizer()
    speaker.chat_template = template
    folders = tiny.save_pair(tmp_path_factory.mktemp("speakers"))
    for folder in folders:
        speaker.save_pretrained(folder)
        GenerationConfig(eos_token_id=characters.EOS).save_pretrained(folder)
    target, draft = map(str, folders)
    return target, draft


@pytest.mark.parametrize("command", ["generate", "chat"])
def test_a_text_follows_a_schema(speakers: tuple[str, str], tmp_path: Path, command: str) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    models = ("--target", speakers[0], "--draft", speakers[1])
    schema = ("--json-schema", str(path), "--logit-bias", f"{SPACE}=-inf")
    asked = (*models, *schema, "-n", "80", "--logprobs", "1")
    prompts = ("abc",) if command == "generate" else ()
    result = CliRunner().invoke(app, [command, *prompts, *asked], input="abc\n/quit\n")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert set(answer) == {"name", "whole"}
    assert len(answer["name"]) <= 6
    assert answer["whole"] in (True, False)
    assert "'{' " in result.stderr, "its log-probabilities are told"
