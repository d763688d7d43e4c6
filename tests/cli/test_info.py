"""`specbranch info`, and what the program says without arguments."""

from __future__ import annotations

import subprocess
import sys

from typer.testing import CliRunner

from specbranch import build_info
from specbranch.cli import app


def test_info_lists_the_build() -> None:
    result = CliRunner().invoke(app, ["info"])
    assert result.exit_code == 0
    for name in build_info():
        assert name in result.stdout


def test_help_names_the_commands_without_loading_torch() -> None:
    script = (
        "import sys; from specbranch.cli import app\n"
        "try: app(['--help'])\n"
        "finally: assert 'torch' not in sys.modules"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    for command in ("generate", "compare", "demo", "info"):
        assert command in shown.stdout
