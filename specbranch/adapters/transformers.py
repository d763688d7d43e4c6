"""Decoding for transformers: `model.generate(ids, custom_generate=specbranch.generate(draft))`."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)
from transformers.generation.utils import GenerateDecoderOnlyOutput

from specbranch.adapters.transformers_request import params_of, prompts_of, require_served
from specbranch.engine import Engine
from specbranch.generation import GenerationStream
from specbranch.loading.borrowed import Draft, borrowed_pair, state_of, twin_of
from specbranch.loading.pair import ModelPair
from specbranch.policies import make_policy

_LEAST_LENGTH = 256  # of texts that an engine is made for


def generate(
    draft: str | PreTrainedModel = "self:int4",
    *,
    method: str = "auto",
    source: str = "model",
    draft_device: str | torch.device | None = None,
    draft_weights: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    **options: Any,
) -> Generate:
    """What decodes for `model.generate` of transformers, as its `custom_generate`.

    draft: guesses for the model: a name as for `load_pair`, or a model with the same tokens.
    method, options: of `make_policy`. source: `model`, `ngram` (no draft), or `model+ngram`.
    draft_device, draft_weights: of a draft with a name, as for `load_pair`.
    tokenizer: the model's, for a named draft that has one of its own; by default that of the folder
        or hub id which the model is from.

    Raises ValueError for a method or an option that is none.
    """
    make_policy(method, **options)
    asked = Draft(draft, draft_device, draft_weights, tokenizer)
    return Generate(
        Draft("self") if source == "ngram" else asked, method, source, tuple(options.items())
    )


@dataclass(frozen=True)
class Generate:
    """Decodes with a draft; `generate` makes it. Equal ones are one: drafts and engines stay with a
    model, whoever made the function anew, for as long as the model lives and is not changed.

    The model stays as it is, with its attention, and may be used meanwhile. On a CPU the engine
    holds its linear layers once more, in a layout of their own.
    """

    draft: Draft
    method: str
    source: str
    options: tuple[tuple[str, Any], ...]

    @torch.no_grad()
    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **model_kwargs: Any,  # what is named here, `generate` would not prepare
    ) -> Tensor | GenerateDecoderOnlyOutput:
        """Continue the rows of input_ids int64 [B, L] as `generate` would: the same tokens where it
        is greedy, up to ties that rounding decides, tokens of the same law where it samples, from
        seeds that `torch.manual_seed` governs.

        Raises ValueError, naming it, for whatever is asked for and not done here.
        """
        streamer, *unserved = _asked_beside()
        require_served(generation_config, *unserved)
        prompts = prompts_of(input_ids, model_kwargs)
        do_sample = bool(generation_config.do_sample)
        seeds = torch.randint(2**62, (len(prompts),)).tolist() if do_sample else [0] * len(prompts)
        width = input_ids.shape[1]
        padding = [width - len(prompt) for prompt in prompts]
        params = [
            params_of(logits_processor, stopping_criteria, do_sample, width, padding, seed)
            for seed in seeds
        ]
        length = width + params[0].max_new_tokens
        engine = _guest(model).engine(self, model, len(prompts), length)
        streams: list[GenerationStream] = []
        try:
            for prompt, each in zip(prompts, params, strict=True):
                streams.append(engine.stream(prompt, each))
            pad = generation_config._pad_token_tensor
            sequences: Any = _in_step(streams, input_ids, stopping_criteria, pad, streamer)
        finally:
            for stream in streams:
                stream.close()
        if generation_config.return_dict_in_generate:
            return GenerateDecoderOnlyOutput(sequences=sequences)
        return sequences

    def stats(self, model: PreTrainedModel) -> dict[str, float | str]:
        """What decoding for this model came to, see `Engine.stats`; empty if none did."""
        guest = _guests.get(model)
        kept = guest.engines.get(self) if guest else None
        return kept[0].stats() if kept else {}

    def make_engine(self, pair: ModelPair, rows: int, length: int) -> Engine:
        """For so many texts of so many tokens."""
        policy = make_policy(self.method, **dict(self.options))
        return Engine(pair, policy, source=self.source, max_requests=rows, max_len=length)


@dataclass
class _Guest:
    """A model of somebody's, and what was made for it while it was in this state.

    engines: with the number of texts and the length that they were made for.
    """

    state: int
    twin: PreTrainedModel
    pairs: dict[Draft, ModelPair] = field(default_factory=dict)
    engines: dict[Generate, tuple[Engine, int, int]] = field(default_factory=dict)

    def engine(self, asked: Generate, model: PreTrainedModel, rows: int, length: int) -> Engine:
        """One for so many texts of so many tokens at least."""
        with _making:
            kept, most, longest = self.engines.get(asked, (None, 1, _LEAST_LENGTH))
            if kept and rows <= most and length <= longest:
                return kept
            del kept
            self.engines.pop(asked, None)  # its memory may be needed
            if asked.draft not in self.pairs:
                self.pairs[asked.draft] = borrowed_pair(model, self.twin, asked.draft)
            rows, length = (_power_of_two(max(*each)) for each in ((rows, most), (length, longest)))
            made = asked.make_engine(self.pairs[asked.draft], rows, length)
            self.engines[asked] = made, rows, length
            return made


_guests: WeakKeyDictionary[PreTrainedModel, _Guest] = WeakKeyDictionary()
_making = threading.Lock()


def _guest(model: PreTrainedModel) -> _Guest:
    """A model that was changed is another guest."""
    with _making:
        state = state_of(model)
        guest = _guests.get(model)
        if guest is None or guest.state != state:
            _guests.pop(model, None)  # its memory may be needed
            guest = _guests[model] = _Guest(state, twin_of(model))
        return guest


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


_GENERATE = inspect.unwrap(GenerationMixin.generate).__code__


def _asked_beside() -> tuple[Any, Any, Any]:
    """The streamer, assistant_model and synced_gpus of the `generate` that is calling, which takes
    them and hands none of them to a function like ours."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not _GENERATE:
        frame = frame.f_back
    given = frame.f_locals if frame is not None else {}
    return given.get("streamer"), given.get("assistant_model"), given.get("synced_gpus")


def _in_step(
    streams: Sequence[GenerationStream],
    input_ids: Tensor,
    criteria: StoppingCriteriaList,
    pad: Tensor | None,
    streamer: Any,
) -> Tensor:
    """Rows with what their streams say, token by token as `generate` goes: all rows at once are
    shown to the criteria, and those that have ended are padded if there is an end of sequence."""
    rows = [_tokens(stream) for stream in streams]
    pads = any(hasattr(each, "eos_token_id") for each in criteria)
    if pads and pad is None:
        raise ValueError("pad_token_id: expected one, for rows that end before others, got None")
    unfinished = torch.ones(len(rows), dtype=torch.bool, device=input_ids.device)
    going = [True] * len(rows)
    while any(going):
        tokens = [
            next(row) if goes or pad is None or not pads else int(pad)
            for row, goes in zip(rows, going, strict=True)
        ]
        new = input_ids.new_tensor(tokens)
        input_ids = torch.cat([input_ids, new[:, None]], dim=1)
        unfinished &= ~criteria(input_ids, None)
        if streamer is not None:
            streamer.put(new.cpu())
        going = unfinished.tolist()
        for stream, goes in zip(streams, going, strict=True):
            if pads and not goes:
                stream.close()
    if streamer is not None:
        streamer.end()
    return input_ids


def _tokens(stream: GenerationStream) -> Iterator[int]:
    return (token for chunk in stream for token in chunk.token_ids)
