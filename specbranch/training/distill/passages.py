"""What text to have a target write: prompts kept whole, cut short or made up, then an answer."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from specbranch.sampling import SamplingParams

ANSWER_TEMPERATURES = (0.0, 0.7, 1.0)
COMPLETION_TEMPERATURE = 1.0
_SENTINEL = "\ue000"  # of private use, and no white space that a template would trim


@dataclass(frozen=True, slots=True)
class Frame:
    """The tokens that a chat template puts around a user's message.

    before: up to the message. after: from its end to the start of the answer; the first of them
    ends the message. Without a template, `before` is the BOS token if there is one, `after` empty.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Frame:
        """Raises ValueError for a template that shows the message other than once."""
        if not tokenizer.chat_template:
            bos = tokenizer.bos_token_id
            return cls(() if bos is None else (bos,), ())
        message = [{"role": "user", "content": _SENTINEL}]
        text: Any = tokenizer.apply_chat_template(
            message, add_generation_prompt=True, tokenize=False
        )
        parts = text.split(_SENTINEL)
        if len(parts) != 2:
            raise ValueError(
                "tokenizer: expected a chat template that shows a user's message once, "
                f"got one that shows it {len(parts) - 1} times"
            )
        before, after = parts
        return cls(_encode(tokenizer, before), _encode(tokenizer, after))


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


@dataclass(slots=True)
class Passage:
    """A text being written.

    prompt: index of the prompt that it starts from. tokens: so far. message_start: where the user's
    message starts in them. answer_start: where the answer does, None while the target is still
    writing the message. temperature: of the answer. seed: of its draws.
    """

    prompt: int
    tokens: list[int]
    message_start: int
    answer_start: int | None
    temperature: float
    seed: int


class PassageWriter:
    """Starts passages and decides how each goes on.

    A passage keeps its prompt whole, or a random part from its beginning, or nothing of it; the
    target completes the message where something is missing, and answers it.

    prompts: token ids of each. frame: around a message. eos_token_ids: end an answer.
    max_message, max_answer: tokens of each, at most.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        frame: Frame,
        eos_token_ids: Collection[int],
        *,
        max_message: int,
        max_answer: int,
    ) -> None:
        self.prompts = prompts
        self.frame = frame
        self.eos_token_ids = eos_token_ids
        self.max_message = max_message
        self.max_answer = max_answer

    @property
    def max_len(self) -> int:
        """Tokens of a passage, at most."""
        return len(self.frame.before + self.frame.after) + self.max_message + self.max_answer

    def passages(self, seed: int, first: int) -> Iterator[Passage]:
        """Passages without end, a function of the seed and their number, from the `first` on."""
        while True:
            yield self._start(random.Random(f"{seed}/{first}"))
            first += 1

    def _start(self, choose: random.Random) -> Passage:
        index = choose.randrange(len(self.prompts))
        message = self.prompts[index][: self.max_message]
        kept = choose.choice((1.0, 1.0, choose.random(), choose.random(), 0.0))
        before = self.frame.before
        least = 0 if before else 1  # a text begins with some token
        message = message[: max(least, int(len(message) * kept))]
        passage = Passage(
            prompt=index,
            tokens=[*before, *message],
            message_start=len(before),
            answer_start=None,
            temperature=choose.choice(ANSWER_TEMPERATURES),
            seed=choose.getrandbits(62),
        )
        if kept == 1.0 or not self.frame.after:
            self._end_message(passage)
        return passage

    def params(self, passage: Passage) -> SamplingParams:
        """How the target is to go on: to the end of the message, or of the answer."""
        if passage.answer_start is None:
            ends = {self.frame.after[0], *self.eos_token_ids}
            temperature = COMPLETION_TEMPERATURE
            left = self.max_message - (len(passage.tokens) - passage.message_start)
        else:
            ends, temperature, left = {*self.eos_token_ids}, passage.temperature, self.max_answer
        return SamplingParams(
            temperature=temperature, seed=passage.seed, eos_token_ids=ends, max_new_tokens=left
        )

    def extend(self, passage: Passage, tokens: Sequence[int]) -> bool:
        """Add what the target wrote under `params`. Returns whether the passage goes on."""
        passage.tokens += tokens
        if passage.answer_start is not None:
            return False
        if tokens and tokens[-1] in {self.frame.after[0], *self.eos_token_ids}:
            passage.tokens.pop()  # the frame has its own
        self._end_message(passage)
        return True

    def _end_message(self, passage: Passage) -> None:
        passage.tokens += self.frame.after
        passage.answer_start = len(passage.tokens)
