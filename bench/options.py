"""Which models a command measures, and on what."""

from __future__ import annotations

import argparse

import torch

from specbranch.cli.options import ModelOptions

DRAFTS = {"cpu": "self:int4", "cuda": "builtin:smollm2-draft"}
"""What drafts by default: quantised drafts run on a CPU only."""


def add_pair(parser: argparse.ArgumentParser) -> None:
    """Add --target and --draft, of a command that measures on the CPU."""
    parser.add_argument("--target", default=ModelOptions().target)
    parser.add_argument("--draft", default=DRAFTS["cpu"])


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add --target, --draft, --device and --dtype."""
    defaults = ModelOptions()
    drafts = " or ".join(f"{draft} on {device}" for device, draft in DRAFTS.items())
    parser.add_argument("--target", default=defaults.target)
    parser.add_argument("--draft", help=f"{drafts} by default")
    parser.add_argument(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cpu or cuda; the GPU by default where there is one",
    )
    parser.add_argument("--dtype", default=defaults.dtype, help="float32, bfloat16 or float16")


def models_of(options: argparse.Namespace) -> ModelOptions:
    """The models that the options name."""
    draft = options.draft or DRAFTS[torch.device(options.device).type]
    return ModelOptions(options.target, draft, options.device, options.dtype)


def positive(text: str) -> int:
    """A count, for argparse."""
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {count}")
    return count
