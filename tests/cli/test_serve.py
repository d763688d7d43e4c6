"""`specbranch serve`, up to the server; tests/serving has what it serves."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.cli.conftest import Invoke


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the server is run with, and what it answers, instead of running."""
    seen: dict[str, Any] = {}

    def run(app: Any, **options: Any) -> None:
        seen.update(options)
        with TestClient(app) as client:
            seen["models"] = client.get("/v1/models").json()["data"]
            body = {"prompt": "hello", "max_tokens": 4, "n": 2}
            seen["answers"] = [
                client.post("/v1/completions", json=body | more)
                for more in ({}, {"n": 3}, {"max_tokens": 9})
            ]

    monkeypatch.setattr("uvicorn.run", run)
    return seen


def test_options_reach_the_server(invoke: Invoke, running: dict[str, Any]) -> None:
    named = ("--served-model-name", "mine", "--port", "8123", "--drain-seconds", "5")
    limits = ("--max-len", "64", "--max-n", "2", "--max-tokens", "8")
    result = invoke("serve", *named, *limits)
    assert result.exit_code == 0, result.output
    assert "mine at http://127.0.0.1:8123/v1" in result.stderr
    assert (running["port"], running["timeout_graceful_shutdown"]) == (8123, 5)
    (model,) = running["models"]
    assert (model["id"], model["max_model_len"]) == ("mine", 64)
    answered, *refused = running["answers"]
    assert len(answered.json()["choices"]) == 2
    assert [each.json()["error"]["param"] for each in refused] == ["n", "max_tokens"]


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client"])
def test_what_is_missing_is_said(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for module in [name for name in sys.modules if name.startswith("specbranch.serving.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    result = invoke("serve")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line == f"error: serve: {package} is not installed: pip install 'specbranch[serve]'"
