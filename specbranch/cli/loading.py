"""Opening a session with something on screen meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from specbranch.cli.options import LaneOptions, ModelOptions, PolicyOptions
from specbranch.cli.session import Session
from specbranch.models.pair import load_model


def open_session(
    methods: Sequence[str], models: ModelOptions, lanes: LaneOptions, policies: PolicyOptions
) -> Session:
    """`Session.open`, with a spinner on standard error instead of the libraries' own bars."""
    disable_progress_bar()
    loading = f"loading target {models.target} and draft {models.draft}"
    with Console(stderr=True).status(loading):
        return Session.open(methods, models, lanes, policies)


def load_target(name: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A target alone, on CPU, its linear layers as they are, with the same spinner."""
    disable_progress_bar()
    with Console(stderr=True).status(f"loading target {name}"):
        return load_model("target", name, torch.device("cpu"), dtype)
