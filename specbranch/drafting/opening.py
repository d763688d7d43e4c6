"""Drafters from names: a draft as `load_pair` takes it, n-grams, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from specbranch.lanes import Lane
from specbranch.lanes.cuda import HIGH_PRIORITY, StreamLane
from specbranch.lanes.threads import ThreadLane
from specbranch.loading.pair import (
    is_made_from_target,
    lay_out_weights,
    load_draft_for,
    load_model,
)
from specbranch.models.memory import affordable_tokens
from specbranch.models.runner import ModelRunner
from specbranch.sources.drafts import draft_source
from specbranch.sources.source import Source
from specbranch.trace import Span, Trace
from specbranch.vocabulary import Translation


class Unkept(list[Span]):
    """The spans of a lane that nobody looks at."""

    def append(self, _: Span) -> None:
        """Forget it."""


@dataclass(frozen=True)
class Draft:
    """A draft model. translation: how it is understood if its tokenizer is not the target's."""

    model: PreTrainedModel
    translation: Translation | None


def open_draft(
    target: str, draft: str, device: torch.device, dtype: torch.dtype, weights: str | None = None
) -> Draft:
    """Load a draft, without the target's weights unless the draft shares them.

    target: what the other engine runs, a folder or a hub id. draft, weights: as for `load_pair`.
    Raises ValueError as `load_pair` does.
    """
    if is_made_from_target(draft):
        model, tokenizer = load_model("target", target, device, dtype)
    else:
        tokenizer = AutoTokenizer.from_pretrained(target)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                AutoConfig.from_pretrained(target), dtype=dtype
            )
    loaded, translation = load_draft_for(model, tokenizer, draft, device, weights)
    lay_out_weights(loaded)
    return Draft(loaded, translation)


def open_source(
    draft: Draft, *, vocab_size: int, max_len: int, max_texts: int, max_nodes: int, fan: int
) -> tuple[Source, int, int]:
    """The draft as a source, with caches in as much of the free memory as is sensible.

    vocab_size: of the target. max_len: tokens of a text. max_nodes: of a tree that the draft has
    computed. Returns with it how many texts it holds, and their length, at most.
    """
    tokens = affordable_tokens([draft.model], max_texts * max_len, least=max_len)
    max_texts = min(max_texts, tokens // max_len)
    runner = ModelRunner(
        draft.model,
        max_len=max_len,
        max_nodes=max_nodes,
        max_requests=max_texts,
        reuse_prefixes=True,
    )
    source = draft_source(runner, draft.translation, fan, vocab_size)
    return source, max_texts, min(runner.max_len, runner.max_positions)


def open_lane(device: torch.device, cores: Sequence[int]) -> Lane:
    """Where a draft works that is the only one of ours: on these cores, or on a stream."""
    trace = Trace(Unkept())
    if device.type == "cuda":
        stream = StreamLane("draft", device, HIGH_PRIORITY)
        stream.begin(trace)
        return stream
    thread = ThreadLane("draft", cores, len(cores))
    thread.trace = trace
    return thread
