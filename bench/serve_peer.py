"""The same requests served by transformers: its continuous batching, on the target's weights."""

from __future__ import annotations

import time
from collections.abc import Sequence

from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from bench.decoding.memory import held_bytes
from bench.mix import Wanted
from bench.openmp import release_team
from bench.served import Load, Queue, Served
from specbranch.sampling import SamplingParams

PAGE_SIZE = 64
POLL_S = 0.01  # how long a result is waited for while a request may come
NO_TOKEN = -1  # so that no token ends a request


def serve_by_transformers(
    model: PreTrainedModel,
    requests: Sequence[Wanted],
    load: Load,
    params: SamplingParams,
    seed: int,
    longest: int,
) -> list[Served]:
    """Serve all requests as they come; a thread of transformers' runs the model.

    longest: tokens of a prompt and its answer, at most.
    """
    sampled = {"temperature": params.temperature} if params.temperature else {}
    law = GenerationConfig(
        do_sample=bool(sampled), eos_token_id=NO_TOKEN, pad_token_id=0, **sampled
    )
    pages = load.in_flight * (1 - -longest // PAGE_SIZE)
    room = ContinuousBatchingConfig(
        page_size=PAGE_SIZE,
        num_blocks=pages,
        max_batch_tokens=longest + load.in_flight,
        max_requests_per_batch=load.in_flight,
        seed=params.seed,
    )
    release_team()  # that thread's is the only one then
    waiting = Queue(requests, load, seed)
    live: dict[str, Served] = {}
    served = []
    with model.continuous_batching_context_manager(
        generation_config=law, continuous_batching_config=room, block=True
    ) as manager:
        start = time.perf_counter()
        while waiting or live:
            now = time.perf_counter() - start
            for each in waiting.come(now, len(live)):
                wanted = each.wanted
                name = manager.add_request(
                    wanted.prompt, max_new_tokens=wanted.new_tokens, streaming=True
                )
                live[name] = each
            result = manager.get_result(timeout=POLL_S)
            if result is None:
                if not manager.is_running():
                    raise RuntimeError("transformers' thread has ended before all requests did")
                continue
            if result.error:
                raise RuntimeError(f"transformers: {result.error}")
            each = live[result.request_id]
            if new := len(result.generated_tokens) - sum(each.counts):
                each.note(new, time.perf_counter() - start)
            if result.is_finished():
                each.held = held_bytes(model.device)
                served.append(live.pop(result.request_id))
    return served
