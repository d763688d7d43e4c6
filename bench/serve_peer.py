"""The same requests served by transformers: its continuous batching, on the target's weights."""

from __future__ import annotations

import time
from collections.abc import Sequence

from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from bench.openmp import release_team
from bench.served import Served, Wanted
from specbranch.sampling import SamplingParams

PAGE_SIZE = 64
NO_TOKEN = -1  # so that no token ends a request


def serve_by_transformers(
    model: PreTrainedModel,
    requests: Sequence[Wanted],
    in_flight: int,
    params: SamplingParams,
    longest: int,
) -> list[Served]:
    """Serve all requests, so many at a time; a thread of transformers' runs the model.

    longest: tokens of a prompt and its answer, at most.
    """
    sampled = {"temperature": params.temperature} if params.temperature else {}
    law = GenerationConfig(
        do_sample=bool(sampled), eos_token_id=NO_TOKEN, pad_token_id=0, **sampled
    )
    room = ContinuousBatchingConfig(
        page_size=PAGE_SIZE,
        num_blocks=in_flight * (1 - -longest // PAGE_SIZE),
        max_batch_tokens=longest + in_flight,
        max_requests_per_batch=in_flight,
        seed=params.seed,
    )
    release_team()  # that thread's is the only one then
    waiting = list(reversed(requests))
    live: dict[str, Served] = {}
    served = []
    with model.continuous_batching_context_manager(
        generation_config=law, continuous_batching_config=room, block=True
    ) as manager:
        while waiting or live:
            while waiting and len(live) < in_flight:
                each = Served(waiting.pop(), time.perf_counter())
                wanted = each.wanted
                name = manager.add_request(
                    wanted.prompt, max_new_tokens=wanted.new_tokens, streaming=True
                )
                live[name] = each
            result = manager.get_result(timeout=1.0)
            if result is None:
                if not manager.is_running():
                    raise RuntimeError("transformers' thread has ended before all requests did")
                continue
            if result.error:
                raise RuntimeError(f"transformers: {result.error}")
            each = live[result.request_id]
            if new := len(result.generated_tokens) - sum(each.counts):
                each.note(new, time.perf_counter())
            if result.is_finished():
                served.append(live.pop(result.request_id))
    return served
