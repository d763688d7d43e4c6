"""One request of one method, beside the baseline it is compared with."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from specbranch.cli.environment import environment
from specbranch.cli.session import Session
from specbranch.engine import Engine, Generation
from specbranch.models.pair import ModelPair
from specbranch.models.block import BlockRows
from specbranch.models.runner import ModelRunner
from specbranch.reference.noise import Stream, gumbel_noise
from specbranch.reference.sampling import RowParams, log_law
from specbranch.sampling import SamplingParams

FIGURES = (
    "mean_accepted_length",
    "acceptance_rate",
    "hit_rate",
    "rollback_rate",
    "branch_waste",
    "overlap",
    "hrad_share",
    "target_forwards",
    "draft_forwards",
)


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a text first differs from the baseline's.

    position: index among the generated tokens. margin: by how much the baseline's token won there
    (see `ar_margin`), None where that has no meaning.
    """

    position: int
    margin: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """A finished request.

    host_s: real seconds, where the lanes go by a virtual clock. speedup, identical: None without a
    baseline; identical also where texts are equal in law only.
    """

    method: str
    prompt: str
    generation: Generation
    env: dict[str, Any]
    host_s: float | None = None
    speedup: float | None = None
    identical: bool | None = None
    divergence: Divergence | None = None

    def as_json(self) -> dict[str, Any]:
        """The run under the keys that `--json` writes."""
        stats = self.generation.stats
        host = {} if self.host_s is None else {"host_s": self.host_s}
        return {
            "method": self.method,
            "prompt": self.prompt,
            "token_ids": self.generation.token_ids,
            "text": self.generation.text,
            "wall_s": stats.wall_s,
            "tokens_per_s": stats.tokens_per_s,
            "speedup": self.speedup,
            **{figure: getattr(stats, figure) for figure in FIGURES},
            "identical_to_ar": self.identical,
            "first_divergence": self.divergence
            and {"position": self.divergence.position, "ar_margin": self.divergence.margin},
            "env": self.env,
            **host,
        }


def run_once(session: Session, engine: Engine, prompt: str, params: SamplingParams) -> Run:
    """Generate from one prompt, to the end."""
    start = time.perf_counter()
    generation = engine.generate(prompt, params)
    return finished_run(session, engine, prompt, generation, time.perf_counter() - start)


def finished_run(
    session: Session, engine: Engine, prompt: str, generation: Generation, host_s: float
) -> Run:
    """The record of a request that took `host_s` real seconds."""
    virtual = session.costs is not None
    env = environment(session, engine.lanes)
    return Run(engine.policy.name, prompt, generation, env, host_s if virtual else None)


def first_difference(tokens: list[int], baseline: list[int]) -> int | None:
    """The first index at which two token lists differ, None if they are equal."""
    if tokens == baseline:
        return None
    pairs = zip(tokens, baseline, strict=False)
    shorter = min(len(tokens), len(baseline))
    return next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), shorter)


def ar_margin(
    pair: ModelPair, baseline: Generation, position: int, params: SamplingParams
) -> float | None:
    """By how much the baseline's token at `position` beat every other.

    The difference of its score and the best other one, where a score is logits / T + Gumbel noise
    over the allowed tokens, or the logit at T = 0. None after the baseline's end, and where no
    other token was allowed.
    """
    if position >= len(baseline.token_ids):
        return None
    tokens = baseline.prompt_token_ids + baseline.token_ids[:position]
    runner = ModelRunner(pair.target, max_len=len(tokens), max_nodes=1)
    block = runner.open()
    runner.prefill(block, tokens[:-1])
    logits = runner.forward([BlockRows(block, tokens[-1:], [-1], 1)])[0].cpu().double()
    scores = _scores(logits, len(tokens), params)
    chosen = baseline.token_ids[position]
    own = float(scores[chosen])
    scores[chosen] = -math.inf
    margin = own - float(scores.max())
    return margin if math.isfinite(margin) else None


def _scores(logits: torch.Tensor, position: int, params: SamplingParams) -> torch.Tensor:
    """What sampling at a position takes the largest of, float64 [V]."""
    if params.temperature == 0:
        return logits
    filters = RowParams(params.temperature, params.top_k, params.top_p, params.min_p)
    noise = gumbel_noise(params.seed, position, torch.arange(len(logits)), Stream.GUMBEL)
    return log_law(logits, filters) + noise
