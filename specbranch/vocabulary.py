"""What tokens add to a text, and how a draft of another tokenizer is understood through it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

_PRINTED = [*range(33, 127), *range(161, 173), *range(174, 256)]
# Byte-level tokenizers write a byte as a character: a printed one as itself, others from 256 on.
_BYTE_OF = {chr(byte): byte for byte in _PRINTED} | {
    chr(256 + n): byte for n, byte in enumerate(sorted({*range(256)} - {*_PRINTED}))
}


class Vocabulary:
    """Tokens as bytes of text.

    texts: of each token; empty where it adds none, or none that is known.
    """

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.texts = texts
        self._ids: dict[bytes, int] = {}
        for token, text in enumerate(texts):
            if text:
                self._ids.setdefault(text, token)
        self._sorted = sorted(self._ids)
        self._longest = max(map(len, self._ids), default=0)

    def text(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self.texts[token] for token in tokens if token < len(self.texts))

    def longest(self, text: bytes) -> int:
        """The longest token that the text begins with, -1 if there is none."""
        for length in range(min(len(text), self._longest), 0, -1):
            if (token := self._ids.get(text[:length])) is not None:
                return token
        return -1

    def split(self, text: bytes) -> list[int]:
        """The text as tokens, each the longest there is; what none begins with is left out."""
        tokens = []
        while text:
            token = self.longest(text)
            text = text[1 if token < 0 else len(self.texts[token]) :]
            if token >= 0:
                tokens.append(token)
        return tokens

    def has_longer(self, text: bytes) -> bool:
        """Whether some token goes on after the text."""
        after = bisect_right(self._sorted, text)
        return after < len(self._sorted) and self._sorted[after].startswith(text)


@dataclass(frozen=True)
class Translation:
    """A draft's vocabulary beside the target's.

    target_only: the target's tokens that the draft does not have. tokenizer: the draft's.
    columns: the draft's token of each column of its head, which was narrowed to those whose text
        begins with a token of the target's.
    """

    target: Vocabulary
    draft: Vocabulary
    target_only: Vocabulary
    tokenizer: PreTrainedTokenizerBase
    columns: tuple[int, ...] = field(repr=False)

    @classmethod
    def between(
        cls, target: PreTrainedTokenizerBase, draft: PreTrainedTokenizerBase, num_columns: int
    ) -> Translation:
        """num_columns: of the draft's head as it is. Raises ValueError if they share no text."""
        ours, theirs = (Vocabulary(token_texts(each)) for each in (target, draft))
        if target.eos_token_id is not None and draft.eos_token_id is not None:
            texts = list(theirs.texts)
            texts[draft.eos_token_id] = ours.texts[target.eos_token_id]
            theirs = Vocabulary(texts)
        columns = tuple(
            token
            for token, text in enumerate(theirs.texts[:num_columns])
            if ours.longest(text) >= 0
        )
        if not columns:
            raise ValueError("draft: expected a tokenizer of some of the target's text, got none")
        known = set(theirs.texts)
        target_only = Vocabulary([b"" if text in known else text for text in ours.texts])
        return cls(ours, theirs, target_only, draft, columns)

    @property
    def first_tokens(self) -> list[int]:
        """The target's token that each column's text begins with."""
        return [self.target.longest(self.draft.texts[token]) for token in self.columns]

    def prompt(self, tokens: Sequence[int]) -> list[int]:
        """The draft's tokens for a prompt of the target's, at least one."""
        text = self.target.text(tokens).decode(errors="replace")
        return list(self.tokenizer(text)["input_ids"]) or [self.columns[0]]


def token_texts(
    tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int] | None = None
) -> list[bytes]:
    """What each token adds to a text that it goes on; special tokens add their names.

    tokens: of these, by default of all.
    """
    if tokens is None:
        tokens = range(max(tokenizer.get_vocab().values()) + 1)
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
    ids = [[*anchor, token] for token in tokens]
    before = len(tokenizer.decode(anchor))
    texts = tokenizer.batch_decode(ids, clean_up_tokenization_spaces=False)
    names = tokenizer.convert_ids_to_tokens(list(tokens))
    return [
        _bytes_of(name) if "\ufffd" in text else text[before:].encode()
        for name, text in zip(names, texts, strict=True)
    ]


def _bytes_of(name: str) -> bytes:
    """A token that is a part of a character, by its name."""
    if name.startswith("<0x") and len(name) == len("<0x00>"):
        return bytes([int(name[3:5], 16)])
    return bytes(_BYTE_OF[char] for char in name) if all(c in _BYTE_OF for c in name) else b""
