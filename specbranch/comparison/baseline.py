"""All methods on the same prompts, the baseline first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from specbranch.comparison.divergence import divergence
from specbranch.comparison.runs import Run, run_once
from specbranch.comparison.session import Session
from specbranch.engine import Engine
from specbranch.sampling import SamplingParams

BASELINE = "ar"
WARM_UP_TOKENS = 8


def with_baseline(methods: Sequence[str]) -> list[str]:
    """The methods in the order in which they run: plain decoding first, asked for or not."""
    return [BASELINE, *(method for method in methods if method != BASELINE)]


def compare(
    session: Session, methods: Sequence[str], prompts: Sequence[str], params: SamplingParams
) -> Iterator[Run]:
    """Run every method on every prompt, method by method, each warmed up first.

    methods: begins with the baseline.
    """
    max_len = params.max_new_tokens + max(len(session.pair.encode(prompt)) for prompt in prompts)
    baselines: list[Run] = []
    for method in methods:
        with open_engine(session, method, max_len) as engine:
            require_fitting(engine, prompts, params)
            warm_up(engine, prompts[0], params)
            for index, prompt in enumerate(prompts):
                run = run_once(session, engine, prompt, params)
                if method == BASELINE:
                    baselines.append(run)
                yield beside(session, run, baselines[index], params)


def require_fitting(engine: Engine, prompts: Sequence[str], params: SamplingParams) -> None:
    """Raise ValueError, with its number, for a prompt that the engine would refuse."""
    for number, prompt in enumerate(prompts, start=1):
        try:
            engine.check(prompt, params)
        except ValueError as error:
            raise ValueError(f"prompt {number} of {len(prompts)}: {error}") from None


def open_engine(session: Session, method: str, max_len: int) -> AbstractContextManager[Engine]:
    """An engine for the method; the baseline's has all the cores that it can use."""
    return (session.baseline() if method == BASELINE else session).engine(method, max_len)


def warm_up(engine: Engine, prompt: str, params: SamplingParams) -> None:
    """Generate a little, so that what follows is timed without first-time costs."""
    few = min(WARM_UP_TOKENS, params.max_new_tokens)
    engine.generate(prompt, replace(params, max_new_tokens=few))


def beside(session: Session, run: Run, baseline: Run, params: SamplingParams) -> Run:
    """The run with what only the baseline can tell: speedup, and where the texts part."""
    before = baseline.generation.stats.tokens_per_s
    speedup = run.generation.stats.tokens_per_s / before if before else None
    if params.effective_coupling == "rejection":
        return replace(run, speedup=speedup)
    parted = divergence(session.pair, run.generation.token_ids, baseline.generation, params)
    return replace(run, speedup=speedup, identical=parted is None, divergence=parted)
