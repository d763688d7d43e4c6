"""What stands before and beside the commands."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import specbranch
from specbranch.cli import app


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"specbranch {specbranch.__version__}\n")


@pytest.mark.parametrize("command", [[], ["generate"], ["chat"], ["advise"], ["hrad", "train"]])
def test_help_has_a_short_name(command: list[str]) -> None:
    short, long = (CliRunner().invoke(app, [*command, flag]) for flag in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.stdout == long.stdout != ""


def test_a_folder_that_was_not_built_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specbranch, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="was not built: run `make build`"):
        specbranch._refuse_unbuilt()
