"""One request of one method, beside the baseline it is compared with."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

from specbranch.comparison.divergence import Divergence
from specbranch.comparison.methods import Options
from specbranch.comparison.session import Session
from specbranch.engine import Engine
from specbranch.generation import Generation
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
class Run:
    """A finished request, and all that it can be repeated from.

    options: of the method, as they were given.
    host_s: real seconds, where the lanes go by a virtual clock. speedup, identical: None without a
    baseline; identical also where texts are equal in law only.
    """

    method: str
    prompt: str
    generation: Generation
    params: SamplingParams
    options: Options
    env: dict[str, Any]
    host_s: float | None = None
    speedup: float | None = None
    identical: bool | None = None
    divergence: Divergence | None = None

    def as_json(self) -> dict[str, Any]:
        """The run under the keys that `--json` writes; JSON knows no infinity."""
        stats, params = self.generation.stats, asdict(self.params)
        biases = {
            token: bias if math.isfinite(bias) else str(bias)
            for token, bias in self.params.logit_bias.items()
        }
        told = [each._asdict() for each in self.generation.logprobs]
        asked = {} if self.params.logprobs is None else {"logprobs": told}
        host = {} if self.host_s is None else {"host_s": self.host_s}
        return {
            "method": self.method,
            "options": dict(self.options),
            "sampling": params | {"logit_bias": biases},
            "prompt": self.prompt,
            "prompt_token_ids": self.generation.prompt_token_ids,
            "token_ids": self.generation.token_ids,
            "text": self.generation.text,
            "finish_reason": self.generation.finish_reason,
            "accepted_lengths": stats.accepted_lengths,
            "origins": stats.origins,
            "wall_s": stats.wall_s,
            "tokens_per_s": stats.tokens_per_s,
            "first_token_s": stats.first_token_s,
            "pace": stats.pace,
            "speedup": self.speedup,
            **{figure: getattr(stats, figure) for figure in FIGURES},
            "identical_to_ar": self.identical,
            "first_divergence": self.divergence
            and {"position": self.divergence.position, "ar_margin": self.divergence.margin},
            "env": self.env,
            **asked,
            **host,
        }


def run_once(session: Session, engine: Engine, prompt: str, params: SamplingParams) -> Run:
    """Generate from one prompt, to the end."""
    start = time.perf_counter()
    generation = engine.generate(prompt, params)
    return finished_run(session, engine, prompt, params, generation, time.perf_counter() - start)


def finished_run(
    session: Session,
    engine: Engine,
    prompt: str,
    params: SamplingParams,
    generation: Generation,
    host_s: float,
) -> Run:
    """The record of a request that took `host_s` real seconds."""
    virtual = session.costs is not None
    env = session.environment(engine.lanes)
    method = engine.policy.name
    options = session.policy_options.get(method, {})
    return Run(method, prompt, generation, params, options, env, host_s if virtual else None)
