"""The command line: generate, compare, demo, info."""

from __future__ import annotations

from specbranch.cli.app import app

__all__ = ["app"]
