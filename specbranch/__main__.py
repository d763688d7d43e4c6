"""`python -m specbranch` is the command line."""

from __future__ import annotations

from specbranch.cli import app

app(prog_name="specbranch")
