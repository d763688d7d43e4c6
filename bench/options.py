"""Which models a command measures, and on what."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from specbranch.comparison.methods import options_by_method
from specbranch.comparison.session import Session
from specbranch.loading.pair import load_pair

TARGET = "builtin:smollm2"


def add_pair(parser: argparse.ArgumentParser) -> None:
    """Add --target and --draft, of a command that measures on the CPU."""
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--draft", default="self:int4")


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add --target, --draft, --device and --dtype."""
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--draft", help="that of load_pair by default")
    parser.add_argument(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cpu or cuda; the GPU by default where there is one",
    )
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")
    parser.add_argument("--target-weights", help="q4 or q8: the target's matrices in few bits")
    parser.add_argument("--draft-weights", help="q4 or q8")


def open_session(options: argparse.Namespace, methods: Sequence[str]) -> Session:
    """The models that the options name. Raises ValueError for an unknown method, first."""
    by_method = options_by_method(methods, {})
    disable_progress_bar()
    with Console(stderr=True).status(f"loading target {options.target} and a draft"):
        pair = load_pair(
            options.target,
            options.draft,
            device=options.device,
            dtype=options.dtype,
            target_weights=options.target_weights,
            draft_weights=options.draft_weights,
        )
    return Session(pair, by_method)


def positive(text: str) -> int:
    """A count, for argparse."""
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {count}")
    return count
