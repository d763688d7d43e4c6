"""What `model.generate` of transformers asks for, as our engine takes it, or why it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    EosTokenCriteria,
    GenerationConfig,
    LogitNormalization,
    LogitsProcessor,
    MaxLengthCriteria,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    StoppingCriteria,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.configuration_utils import GenerationMode

from specbranch.checks import require
from specbranch.sampling import SamplingParams

_MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)
_SERVED: dict[str, tuple[object, ...]] = {  # what has no processor, criterion or mode of its own
    "use_cache": (None, True),
    "cache_implementation": (None, "dynamic"),
    "prefill_chunk_size": (None,),
    "compile_config": (None,),
    "output_scores": (None, False),
    "output_logits": (None, False),
    "output_attentions": (None, False),
    "output_hidden_states": (None, False),
}
_FILTERS: dict[type, str] = {  # in the order in which we apply them
    TemperatureLogitsWarper: "temperature",
    TopKLogitsWarper: "top_k",
    TopPLogitsWarper: "top_p",
    MinPLogitsWarper: "min_p",
}
_LEAST_LENGTHS: dict[type, Callable[[Any], int]] = {  # of a text, its prompt included
    MinLengthLogitsProcessor: lambda each: each.min_length,
    MinNewTokensLengthLogitsProcessor: (
        lambda each: each.prompt_length_to_skip + each.min_new_tokens
    ),
}
_ORDER = ("logit_bias", "repetition_penalty", "min_new_tokens", *_FILTERS.values())
_CACHES = ("cache", "past_key_values")  # from transformers 5.24 on, and before
_OURS = {"logits_to_keep", "use_cache", "cache_position"}  # that `generate` adds, of no matter here


def require_served(config: GenerationConfig, assistant_model: Any, synced_gpus: object) -> None:
    """Raises ValueError, naming it, for what a config asks for and we do not do."""
    mode = config.get_generation_mode(assistant_model)
    names = " or ".join(each.value for each in _MODES)
    require("generation mode", names, mode.value, mode in _MODES)
    require("synced_gpus", "nothing to wait for", synced_gpus, not synced_gpus)
    for name, served in _SERVED.items():
        value = getattr(config, name, None)
        require(name, " or ".join(map(str, served)), value, value in served)


def prompts_of(input_ids: Tensor, model_kwargs: dict[str, Any]) -> list[list[int]]:
    """The rows of input_ids [B, L] without their padding.

    model_kwargs: what the model's own forward would be given.
    Raises ValueError for padding elsewhere than on the left, positions other than 0, 1, ..., a
    cache, or any other input.
    """
    rest = {name: value for name, value in model_kwargs.items() if value is not None}
    for name in _CACHES:
        cache = rest.pop(name, None)
        empty = cache is None or not (
            getattr(cache, "_is_user_defined", False) or cache.get_seq_length()
        )
        require(f"{name} (past_key_values)", "none: prompts are read anew", type(cache), empty)
    given, positions = rest.pop("attention_mask", None), rest.pop("position_ids", None)
    others = sorted(rest.keys() - _OURS)
    require("inputs", "input_ids and attention_mask", ", ".join(others), not others)
    mask = torch.ones_like(input_ids).bool() if given is None else given.bool()
    if not _is_left_padded(mask, input_ids):
        raise ValueError(
            "attention_mask: expected 2 dimensions, and padding on the left of each row alone "
            "(padding_side='left'), got another"
        )
    if positions is not None and not _counts(positions, mask):
        raise ValueError("position_ids: expected 0, 1, ... in each row, got others")
    return [row[kept].tolist() for row, kept in zip(input_ids, mask, strict=True)]


def _is_left_padded(mask: Tensor, input_ids: Tensor) -> bool:
    if mask.shape != input_ids.shape or not mask.numel():
        return mask.shape == input_ids.shape
    return bool(mask[:, -1].all()) and bool((mask[:, 1:] >= mask[:, :-1]).all())


def _counts(positions: Tensor, mask: Tensor) -> bool:
    if positions.ndim != 2 or positions.shape[1] != mask.shape[1]:
        return False
    wanted = mask.long().cumsum(1) - 1
    return torch.equal(positions.expand_as(mask)[mask], wanted[mask])


def params_of(
    processors: Iterable[LogitsProcessor],
    criteria: Iterable[StoppingCriteria],
    do_sample: bool,
    prompt_len: int,
    padding: Sequence[int],
    seed: int,
) -> SamplingParams:
    """What one row asks for. A row that other criteria end goes on until somebody ends it.

    processors, criteria: as `generate` prepared them. prompt_len: padding included. padding: of
        each row.
    Raises ValueError for a processor that is not one of `_ORDER`, each once and in this order.
    """
    criteria = list(criteria)
    max_len = min(each.max_length for each in criteria if type(each) is MaxLengthCriteria)
    ends = [
        token
        for each in criteria
        if type(each) is EosTokenCriteria
        for token in each.eos_token_id.tolist()
        if token >= 0
    ]
    asked = _Asked(prompt_len, list(padding), ends).read(processors)
    rules = {name: value for name, value in asked.items() if name not in _FILTERS.values()}
    law = {"temperature": 1.0, **asked} if do_sample else {"temperature": 0.0, **rules}
    return SamplingParams(
        **law, seed=seed, max_new_tokens=max(1, max_len - prompt_len), eos_token_ids=ends
    )


@dataclass(frozen=True)
class _Asked:
    """Reads processors, whose meaning may depend on prompts and on what ends a text."""

    prompt_len: int
    padding: list[int]
    ends: list[int]

    def read(self, processors: Iterable[LogitsProcessor]) -> dict[str, Any]:
        asked: dict[str, Any] = {}
        normalised = False
        for processor in processors:
            if type(processor) is LogitNormalization:
                normalised = True  # filters do not mind
                continue
            name, value = self._one(processor)
            in_order = all(_ORDER.index(before) <= _ORDER.index(name) for before in asked)
            once = name not in asked or name == "min_new_tokens"
            if not (in_order and once) or (normalised and name == "repetition_penalty"):
                raise _refused(processor)
            asked[name] = max(value, asked[name]) if name in asked else value
        return asked

    def _one(self, processor: Any) -> tuple[str, Any]:
        kind = type(processor)
        if kind in _FILTERS and _is_ours(processor):
            return _FILTERS[kind], getattr(processor, _FILTERS[kind])
        if kind is RepetitionPenaltyLogitsProcessor and self._ignores_padding(processor):
            return "repetition_penalty", processor.penalty
        if kind is SequenceBiasLogitsProcessor and all(map(_is_single, processor.sequence_bias)):
            return "logit_bias", {token: bias for (token,), bias in processor.sequence_bias.items()}
        if kind in _LEAST_LENGTHS and set(processor.eos_token_id.tolist()) == set(self.ends):
            least = _LEAST_LENGTHS[kind](processor)
            return "min_new_tokens", max(0, least - self.prompt_len)
        raise _refused(processor)

    def _ignores_padding(self, processor: Any) -> bool:
        """Whether all that it takes for text is text."""
        begin = getattr(processor, "prompt_ignore_length", None)
        begins = begin.tolist() if isinstance(begin, Tensor) else [begin or 0] * len(self.padding)
        return begins == self.padding


def _refused(processor: object) -> ValueError:
    return ValueError(
        f"logits_processor: expected {', '.join(_ORDER)}, each once and in this order, got "
        f"{type(processor).__name__}"
    )


def _is_single(sequence: tuple[int, ...]) -> bool:
    return len(sequence) == 1


def _is_ours(processor: Any) -> bool:
    """Whether it excludes tokens, and leaves one at least: top_k already is what it keeps."""
    least = getattr(processor, "min_tokens_to_keep", 1)
    excludes = getattr(processor, "filter_value", -torch.inf) == -torch.inf
    return excludes and (least == 1 or type(processor) is TopKLogitsWarper)
