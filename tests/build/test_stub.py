"""_C.pyi says what the extension says of itself."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_stub_is_that_of_the_extension() -> None:
    written = (ROOT / "specbranch/_C.pyi").read_text()
    current = runpy.run_path(str(ROOT / "scripts/stub.py"))["stub"]()
    assert ast.dump(ast.parse(written)) == ast.dump(ast.parse(current)), "run `make stub`"
