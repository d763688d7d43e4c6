"""Checking options and loading models, with something on screen meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import torch
from rich.console import Console
from rich.markup import escape
from tqdm.auto import tqdm
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
    pair = load(models)
    hrad = HRad.load(policies.hrad, pair) if policies.hrad else None
    Console(stderr=True).print(f"weights: {pair.weights}", style="dim", highlight=False)
    threads = lanes.draft_threads, lanes.target_threads
    return Session(pair, policy_options, costs, *threads, hrad, models.source)


def load(models: ModelOptions) -> ModelPair:
    """The pair, with a spinner on standard error instead of the libraries' own bars."""
    with _spinner(f"target {models.target} and its draft"):
        return models.load()


def load_lonely(name: str) -> ModelPair:
    """A target to decode with, without a draft, in bfloat16 on CPU."""
    with _spinner(f"target {name}"):
        return load_pair(name, "self", dtype=torch.bfloat16)


def load_target(name: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A target alone, on CPU, its linear layers as they are, with the same spinner."""
    with _spinner(f"target {name}"):
        return load_model("target", name, torch.device("cpu"), dtype, PLAIN)


@contextmanager
def _spinner(what: str) -> Iterator[None]:
    """The libraries' bars are off meanwhile: they would be drawn over it."""
    disable_progress_bar()
    note = "; a model's first time it is converted, in a minute" if "builtin:" in what else ""
    no_bars = partial(tqdm, disable=True)  # transformers has no switch for the one over a .gguf
    with (
        Console(stderr=True).status(escape(f"loading {what}{note}")),
        patch("transformers.modeling_gguf_pytorch_utils.tqdm", no_bars),
    ):
        yield
