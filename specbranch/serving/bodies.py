"""What clients send, and what of it is honoured."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from specbranch.checks import require
from specbranch.loading.pair import ModelPair
from specbranch.sampling import SamplingParams
from specbranch.serving.chances import ChatChances, CompletionChances

# Fields that are not honoured, and the value of each that asks for nothing.
NEUTRAL: dict[str, Any] = {
    **{"best_of": 1, "echo": False, "functions": []},
    **{"suffix": "", "tool_choice": "none", "tools": []},
}
ABOUT_NO_TEXT = {"metadata", "parallel_tool_calls", "store", "user"}
SAMPLING = (
    *("temperature", "top_k", "top_p", "min_p", "seed", "ignore_eos", "logit_bias"),
    *("frequency_penalty", "presence_penalty", "repetition_penalty"),
)
MOST_LOGPROBS = 20
StreamOption = Literal["include_usage", "include_trace"]
NAMES = {
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "json_schema": "response_format",
}  # ours, and OpenAI's


@dataclass(frozen=True)
class Limits:
    """What is accepted; the engine's `max_len` bounds prompt and output besides.

    in_flight: choices that run or wait, of all requests. n: choices of one request. max_tokens: of
    an output, None for what the engine holds. stop_chars: of each string.
    """

    body_bytes: int = 1 << 20
    in_flight: int = 72
    n: int = 8
    max_tokens: int | None = None
    stop_strings: int = 16
    stop_chars: int = 256


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class TextPart(Strict):
    type: Literal["text"]
    text: str


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: list[TextPart] | str
    name: str | None = None

    def for_template(self) -> dict[str, Any]:
        """With its parts as one text."""
        parts = self.content
        text = parts if isinstance(parts, str) else "\n".join(part.text for part in parts)
        return self.model_dump(exclude_none=True) | {"content": text}


class Schema(Strict):
    """Of a structured answer; every one is followed strictly."""

    name: str
    json_schema: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None

    @property
    def schema_wanted(self) -> dict[str, Any] | None:
        if self.type == "json_schema":
            wanted = self.json_schema
            require("response_format", "a json_schema", wanted, wanted is not None)
            return wanted.json_schema if wanted else None
        return {"type": "object"} if self.type == "json_object" else None


class CommonBody(Strict):
    """What both kinds of requests have; None is a field that was not sent."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    n: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    ignore_eos: bool | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = None
    min_tokens: int | None = None
    response_format: ResponseFormat | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: dict[StreamOption, bool] | None = None

    @property
    @abstractmethod
    def wanted_logprobs(self) -> int | None:
        """How many of the likeliest tokens to tell of; None for no log-probabilities."""

    def stream_option(self, name: StreamOption) -> bool:
        return (self.stream_options or {}).get(name, False)

    @property
    def schema_wanted(self) -> dict[str, Any] | None:
        return self.response_format.schema_wanted if self.response_format else None

    @property
    def tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    def require_within(self, limits: Limits) -> None:
        """Raise ValueError for what is over the limits, and what would not be honoured."""
        for name in sorted((self.model_extra or {}).keys() - ABOUT_NO_TEXT):
            require_neutral(name, (self.model_extra or {})[name])
        longest = max(map(len, self.stops), default=0)
        for name, most, value in (
            ("n", limits.n, self.n),
            ("max_tokens", limits.max_tokens, self.tokens),
            ("stop", limits.stop_strings, len(self.stops)),
            ("stop", limits.stop_chars, longest),
        ):
            within = most is None or value is None or value <= most
            require(name, f"{most} at most", value, within)

    def params(self, choice: int, **defaults: Any) -> SamplingParams:
        """Of the choice of that number: their seeds count on from the request's. Raises ValueError
        for a value out of range."""
        asked = {name: getattr(self, name) for name in SAMPLING} | {
            "max_new_tokens": self.tokens,
            "min_new_tokens": self.min_tokens,
            "logprobs": self.wanted_logprobs,
            "json_schema": self.schema_wanted,
        }
        law = defaults | {name: value for name, value in asked.items() if value is not None}
        return SamplingParams(**law | {"seed": law["seed"] + choice, "stop": self.stops})


class ChatBody(CommonBody):
    objects: ClassVar = ("chatcmpl-", "chat.completion", "chat.completion.chunk")
    names: ClassVar = {**NAMES, "prompt": "messages"}
    opening: ClassVar = [{"delta": {"role": "assistant", "content": ""}}]
    chances: ClassVar = ChatChances

    messages: list[Message] = Field(min_length=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)

    @property
    def wanted_logprobs(self) -> int | None:
        """Raises ValueError for likeliest tokens without those that came, as OpenAI does."""
        if not self.logprobs:
            require("top_logprobs", "logprobs with it", self.top_logprobs, not self.top_logprobs)
            return None
        return self.top_logprobs or 0

    def encode(self, pair: ModelPair) -> list[int]:
        return pair.encode([message.for_template() for message in self.messages])

    def told(self, text: str) -> dict[str, Any]:
        if self.stream:
            return {"delta": {"content": text}}
        return {"message": {"role": "assistant", "content": text}}


class CompletionBody(CommonBody):
    objects: ClassVar = ("cmpl-", "text_completion", "text_completion")
    names: ClassVar = NAMES
    opening: ClassVar[list[Any]] = []
    chances: ClassVar = CompletionChances

    prompt: str | list[int]
    max_tokens: int | None = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)

    @property
    def wanted_logprobs(self) -> int | None:
        return self.logprobs

    def encode(self, pair: ModelPair) -> list[int]:
        """A text as it is: this interface knows no chat template."""
        if self.prompt and isinstance(self.prompt, str):
            return list(pair.tokenizer(self.prompt)["input_ids"])
        return pair.encode(self.prompt)

    def told(self, text: str) -> dict[str, Any]:
        return {"text": text}


Body = ChatBody | CompletionBody


def require_neutral(name: str, value: object) -> None:
    """Raise ValueError for a field that might change the text and is not honoured."""
    require(name, "a field that is known here", value, name in NEUTRAL or value is None)
    neutral = NEUTRAL.get(name)
    require(name, f"{neutral!r}, as it is not supported", value, value in (neutral, None))
