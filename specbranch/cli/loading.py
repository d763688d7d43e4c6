"""Checking options and loading models, with something on screen meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from specbranch.checks import require
from specbranch.cli.options import LaneOptions, ModelOptions, PolicyOptions
from specbranch.comparison.methods import options_by_method
from specbranch.comparison.session import Session
from specbranch.engine import SOURCES
from specbranch.hrad.model import HRad
from specbranch.loading.pair import PLAIN, ModelPair, load_model, load_pair
from specbranch.policies import find_policy


def open_session(
    methods: Sequence[str], models: ModelOptions, lanes: LaneOptions, policies: PolicyOptions
) -> Session:
    """Check the options, then load the models, with a spinner on standard error instead of the
    libraries' own bars. Raises ValueError for what does not hold."""
    policy_options = options_by_method(methods, policies.given())
    if policies.hrad and not any(find_policy(method).reads_outlook for method in methods):
        raise ValueError(f"--hrad: expected a method that reads it, got {', '.join(methods)}")
    require("--source", f"one of {', '.join(SOURCES)}", models.source, models.source in SOURCES)
    costs = lanes.costs()
    disable_progress_bar()
    console = Console(stderr=True)
    with console.status(f"loading target {models.target} and its draft"):
        pair = models.load()
        hrad = HRad.load(policies.hrad, pair) if policies.hrad else None
    console.print(f"weights: {pair.weights}", style="dim", highlight=False)
    threads = lanes.draft_threads, lanes.target_threads
    return Session(pair, policy_options, costs, *threads, hrad, models.source)


def load_lonely(name: str) -> ModelPair:
    """A target to decode with, without a draft, in bfloat16 on CPU."""
    disable_progress_bar()
    with Console(stderr=True).status(f"loading target {name}"):
        return load_pair(name, "self", dtype=torch.bfloat16)


def load_target(name: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A target alone, on CPU, its linear layers as they are, with the same spinner."""
    disable_progress_bar()
    with Console(stderr=True).status(f"loading target {name}"):
        return load_model("target", name, torch.device("cpu"), dtype, PLAIN)
