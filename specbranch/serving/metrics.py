"""Figures for Prometheus, under vLLM's names where they mean what they mean there."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from specbranch.engine import Engine
from specbranch.stats import Stats

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)


class Metrics:
    """registry: of all. Guesses are counted when a choice ends."""

    def __init__(self, engine: Engine, model: str) -> None:
        self.registry = CollectorRegistry()

        def made(kind: Any, name: str, text: str, **options: Any) -> Any:
            labelled = kind(f"vllm:{name}", text, ["model_name"], registry=self.registry, **options)
            return labelled.labels(model)

        for state in ("running", "waiting"):
            gauge = made(Gauge, f"num_requests_{state}", f"Choices that are {state}.")
            gauge.set_function(lambda state=state: engine.stats()[state])
        self.prompt_tokens = made(Counter, "prompt_tokens", "Of prompts that were read.")
        self.tokens = made(Counter, "generation_tokens", "Tokens committed.")
        first = "time_to_first_token_seconds"
        self.first_token = made(Histogram, first, "Since the request came.", buckets=SECONDS)
        of_drafts = "spec_decode_num_"
        self._drafts = made(Counter, f"{of_drafts}drafts", "Target forwards with guesses.")
        self._guesses = made(Counter, f"{of_drafts}draft_tokens", "Guesses in these.")
        self._accepted = made(Counter, f"{of_drafts}accepted_tokens", "Those committed.")

    def count_guesses(self, stats: Stats) -> None:
        self._drafts.inc(stats.drafts)
        self._guesses.inc(stats.submitted)
        self._accepted.inc(stats.submitted_accepted)
