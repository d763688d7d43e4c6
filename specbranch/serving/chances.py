"""Log-probabilities of a choice's tokens in OpenAI's two forms, part by part as they come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from specbranch.logprobs import TokenLogprobs

Texts = Callable[[Sequence[int]], list[bytes]]

LEAST = -9999.0  # what OpenAI says of a token that cannot come, for JSON knows no infinity


class Chances(ABC):
    """Of one choice. texts: what tokens add to a text."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    @abstractmethod
    def of(self, told: Sequence[TokenLogprobs]) -> dict[str, Any]:
        """What is said of the next tokens."""

    def _by_text(self, chances: Mapping[int, float]) -> list[tuple[bytes, float]]:
        finite = (max(LEAST, chance) for chance in chances.values())
        return list(zip(self._texts(list(chances)), finite, strict=True))


class ChatChances(Chances):
    def of(self, told: Sequence[TokenLogprobs]) -> dict[str, Any]:
        content = [
            {**self._said({each.token_id: each.logprob})[0], "top_logprobs": self._said(each.top)}
            for each in told
        ]
        return {"content": content, "refusal": None}

    def _said(self, chances: Mapping[int, float]) -> list[dict[str, Any]]:
        return [
            {"token": shown(text), "logprob": chance, "bytes": list(text)}
            for text, chance in self._by_text(chances)
        ]


class CompletionChances(Chances):
    """Among the likeliest tokens is the one that came, however unlikely."""

    _length = 0  # of the text so far

    def of(self, told: Sequence[TokenLogprobs]) -> dict[str, Any]:
        tokens, offsets, tops = [], [], []
        for each in told:
            (text,) = self._texts([each.token_id])
            tokens.append(shown(text))
            offsets.append(self._length)
            self._length += len(tokens[-1])
            top = self._by_text({**each.top, each.token_id: each.logprob})
            tops.append({shown(text): chance for text, chance in top})
        return {
            "tokens": tokens,
            "token_logprobs": [max(LEAST, each.logprob) for each in told],
            "top_logprobs": tops,
            "text_offset": offsets,
        }


def shown(text: bytes) -> str:
    """Parts of characters as the sign for what is none."""
    return text.decode(errors="replace")
