"""Opening a session with something on screen meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from specbranch.cli.options import LaneOptions, ModelOptions, PolicyOptions
from specbranch.cli.session import Session


def open_session(
    methods: Sequence[str], models: ModelOptions, lanes: LaneOptions, policies: PolicyOptions
) -> Session:
    """`Session.open`, with a spinner on standard error instead of the libraries' own bars."""
    disable_progress_bar()
    loading = f"loading target {models.target} and draft {models.draft}"
    with Console(stderr=True).status(loading):
        return Session.open(methods, models, lanes, policies)
