"""Decoding speed of a real pair: `python -m bench.decode --out FILE.json`.

Plain decoding of ours against transformers' own generate, on the same weights and threads; then
every method against plain decoding, with the target in fp32 and in bf16.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import AutoModelForCausalLM

from bench.measure import take_turns
from specbranch.cli.compare import run_with_progress
from specbranch.cli.comparison import BASELINE
from specbranch.cli.loading import open_session
from specbranch.cli.options import LaneOptions, ModelOptions, PolicyOptions
from specbranch.cli.report import comparison_table, machine_line
from specbranch.cli.session import Session
from specbranch.cli.summary import summarise
from specbranch.models.builtin import builtin_folder
from specbranch.policies import POLICIES
from specbranch.prompts import EXAMPLE_PROMPTS
from specbranch.sampling import SamplingParams

DTYPES = ("float32", "bfloat16")


def against_transformers(session: Session, new_tokens: int) -> dict[str, Any]:
    """Seconds of plain decoding, ours and transformers', both greedy and to the same length."""
    pair = session.pair
    theirs = AutoModelForCausalLM.from_pretrained(builtin_folder("smollm2"), dtype=pair.dtype)
    prompt = pair.encode(EXAMPLE_PROMPTS[0])
    inputs = torch.tensor([prompt])
    params = SamplingParams(max_new_tokens=new_tokens, ignore_eos=True)
    with session.engine(BASELINE, len(prompt) + new_tokens) as engine:
        timings = take_turns(
            {
                "ours": lambda: engine.generate(prompt, params),
                "transformers": lambda: theirs.generate(
                    inputs,
                    attention_mask=torch.ones_like(inputs),
                    max_new_tokens=new_tokens,
                    min_new_tokens=new_tokens,
                    do_sample=False,
                ),
            },
            rounds=5,
            seconds=120,
        )
    per_token = {name: timing.median / new_tokens for name, timing in timings.items()}
    return {
        "seconds_per_token": per_token,
        "ours_over_transformers": per_token["transformers"] / per_token["ours"],
    }


def measure(dtype: str, prompts: int, new_tokens: int, console: Console) -> dict[str, Any]:
    """All methods on the example prompts, and plain decoding beside transformers'."""
    methods = list(POLICIES)
    session = open_session(methods, ModelOptions(dtype=dtype), LaneOptions(), PolicyOptions())
    beside = against_transformers(session, new_tokens)
    params = SamplingParams(max_new_tokens=new_tokens)
    runs = run_with_progress(session, methods, EXAMPLE_PROMPTS[:prompts], params)
    summary = summarise(runs)
    console.print(f"\ntarget in {dtype}", style="bold")
    console.print(
        f"plain decoding: {beside['ours_over_transformers']:.2f}x transformers' generate",
        highlight=False,
    )
    console.print(comparison_table(summary))
    console.print(machine_line(runs[0].env), style="dim", highlight=False)
    return {"dtype": dtype, "env": runs[0].env, "plain_decoding": beside, "summary": summary}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=len(EXAMPLE_PROMPTS))
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    options = parser.parse_args(arguments)
    console = Console()
    results = [measure(dtype, options.prompts, options.max_new_tokens, console) for dtype in DTYPES]
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
