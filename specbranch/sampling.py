"""What one request asks for: the law its tokens are drawn from, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from specbranch.checks import is_integer, is_single, require

Coupling = Literal["gumbel", "rejection"]
COUPLINGS: tuple[Coupling, ...] = ("gumbel", "rejection")


def _are_strings(value: object) -> bool:
    return (
        isinstance(value, Collection)
        and not isinstance(value, str)
        and all(isinstance(text, str) and text for text in value)
    )


def _are_ids(value: object) -> bool:
    return value is None or (
        isinstance(value, Collection) and all(is_integer(token, 0) for token in value)
    )


def _is_schema(value: object) -> bool:
    return value is None or isinstance(value, str | Mapping)


def _is_penalty(value: float) -> bool:
    return is_single(value) and abs(value) <= 2


def _are_biases(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        is_integer(token, 0) and (is_single(bias) or bias == -math.inf)
        for token, bias in value.items()
    )


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample and when to stop.

    temperature: 0 is greedy. top_k 0, top_p 1 and min_p 0 are off; they apply in the order
        temperature, top_k, top_p (on the renormalised rest), min_p.
    seed: any 64-bit integer. Under the gumbel coupling the text is a function of the target, the
        prompt and the seed alone, whatever draft and policy are used.
    coupling: "gumbel" shares one noise between draft and target (Daliri et al. 2024);
        "rejection" is classical speculative sampling (Leviathan et al., Chen et al. 2023).
    max_new_tokens: committed tokens at most.
    stop: the request ends with the token that completes one of these strings; the string itself
        is not part of the text.
    eos_token_ids: tokens that end the request, committed as its last; None takes the models' own.
    ignore_eos: go on after an end-of-sequence token.
    frequency_penalty, presence_penalty: taken off the logit of a token for each time that it is in
        the output, and if it is there at all. 0 is off.
    repetition_penalty: divides the logit of a token of prompt or output, multiplies a negative one.
        1 is off.
    logit_bias: what is added to the logits of tokens; -inf rules one out.
    min_new_tokens: no token that ends the request comes before the output has so many.
    logprobs: tell each token's log-probability, and those of so many of the likeliest ones: of the
        target's own law, before all that is asked for here, as vLLM does.
    json_schema: the text is JSON that follows this schema, and ends when it is whole; by xgrammar,
        the extra `specbranch[grammar]`.

    These change logits before temperature and filters, as in vLLM: biases and the least length
    first, then repetition, frequency and presence, and what the schema rules out.

    Raises ValueError naming the field, what was wanted and what came.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    coupling: Coupling = "gumbel"
    max_new_tokens: int = 128
    stop: Sequence[str] = ()
    eos_token_ids: Collection[int] | None = None
    ignore_eos: bool = False
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    min_new_tokens: int = 0
    logprobs: int | None = None
    json_schema: str | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        temperature, top_p, min_p = self.temperature, self.top_p, self.min_p
        repetition, logprobs = self.repetition_penalty, self.logprobs
        for name, wanted, holds in (
            (
                "temperature",
                "a number >= 0 that float32 holds",
                is_single(temperature) and temperature >= 0,
            ),
            ("top_k", "an integer from 0 (off) to 2**31 - 1", is_integer(self.top_k, 0, 2**31)),
            ("top_p", "a number in (0, 1]", is_single(top_p) and 0 < top_p <= 1),
            ("min_p", "a number in [0, 1]", is_single(min_p) and 0 <= min_p <= 1),
            ("seed", "a signed 64-bit integer", is_integer(self.seed, -(2**63), 2**63)),
            ("coupling", f"one of {', '.join(COUPLINGS)}", self.coupling in COUPLINGS),
            ("max_new_tokens", "an integer >= 0", is_integer(self.max_new_tokens, 0)),
            ("stop", "a sequence of strings, none of them empty", _are_strings(self.stop)),
            ("eos_token_ids", "token ids, or None", _are_ids(self.eos_token_ids)),
            ("frequency_penalty", "a number in [-2, 2]", _is_penalty(self.frequency_penalty)),
            ("presence_penalty", "a number in [-2, 2]", _is_penalty(self.presence_penalty)),
            (
                "repetition_penalty",
                "a number > 0 that float32 holds",
                is_single(repetition) and repetition > 0,
            ),
            ("logit_bias", "finite numbers or -inf, by token ids", _are_biases(self.logit_bias)),
            ("min_new_tokens", "an integer >= 0", is_integer(self.min_new_tokens, 0)),
            (
                "json_schema",
                "a JSON schema as text or a dict, or None",
                _is_schema(self.json_schema),
            ),
            ("logprobs", "an integer >= 0, or None", logprobs is None or is_integer(logprobs, 0)),
        ):
            require(name, wanted, getattr(self, name), holds)

    @property
    def effective_coupling(self) -> Coupling:
        """Greedy decoding draws nothing: it is the gumbel coupling without noise."""
        return self.coupling if self.temperature > 0 else "gumbel"

    def ends(self, eos_token_ids: Collection[int]) -> Collection[int]:
        """The tokens that end this request, where `eos_token_ids` are the models' own."""
        if self.ignore_eos:
            return ()
        return eos_token_ids if self.eos_token_ids is None else self.eos_token_ids
