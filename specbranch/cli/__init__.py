"""The command line: generate, compare, demo, info."""

from __future__ import annotations

from specbranch.extras import needs

with needs("cli", "specbranch"):
    from specbranch.cli.app import app

__all__ = ["app"]
