"""Where a request ends, and which text may already be shown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

FinishReason = Literal["eos", "stop", "length", "cancelled"]


class Transcript:
    """Takes decided tokens one by one, finds the one that ends the request, releases text.

    Text that may still turn out to be the beginning of a stop string is held back.

    tokenizer: decodes the tokens; without one (None) the text stays empty.
    eos_token_ids: tokens that end the request, whatever came before; they are committed.
    stop: strings that end the request; the completing token is committed, the string is not shown.
    max_new_tokens: tokens at most.
    ends: those eos_token_ids.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        eos_token_ids: Collection[int],
        stop: Sequence[str],
        max_new_tokens: int,
    ) -> None:
        if stop and tokenizer is None:
            raise ValueError("stop: expected no stop strings without a tokenizer")
        self.token_ids: list[int] = []
        self.finish_reason: FinishReason | None = "length" if max_new_tokens == 0 else None
        self._tokenizer = tokenizer
        self._decode = DecodeStream(skip_special_tokens=True)
        self.ends = frozenset(eos_token_ids)
        self._stop = tuple(stop)
        self._max_new_tokens = max_new_tokens
        self._text = ""  # all that is decoded, up to a stop string
        self._shown = 0  # characters of it already released

    def anew(self) -> Transcript:
        """One that is told the same text from the start."""
        return Transcript(self._tokenizer, self.ends, self._stop, self._max_new_tokens)

    @property
    def remaining(self) -> int:
        """Tokens that may still be committed."""
        return self._max_new_tokens - len(self.token_ids)

    @property
    def text(self) -> str:
        """The whole text, once finished."""
        return self._text

    def cancel(self) -> None:
        """End the request here, unless it has ended; also while another thread commits to it."""
        self.finish_reason = self.finish_reason or "cancelled"

    def commit(self, tokens: Sequence[int]) -> tuple[list[int], str]:
        """Commit `tokens` up to the one that ends the request.

        Returns the tokens that were committed and the text that can be shown after them.
        """
        start = len(self.token_ids)
        for token in tokens:
            if self.finish_reason:
                break
            self.token_ids.append(token)
            self._append_text(token)
            if token in self.ends:
                self.finish_reason = "eos"
            elif self._cut_at_stop_string():
                self.finish_reason = "stop"
            elif self.remaining == 0:
                self.finish_reason = "length"
        return self.token_ids[start:], self._release()

    def _append_text(self, token: int) -> None:
        if self._tokenizer is None:
            return
        backend = self._tokenizer.backend_tokenizer
        try:
            text = self._decode.step(backend, token)
        except Exception:  # of no narrower type: bytes turned out to form no character
            self._decode = DecodeStream(self.token_ids[-2:-1], skip_special_tokens=True)
            text = self._decode.step(backend, token)
        self._text += text or ""

    def _cut_at_stop_string(self) -> bool:
        found = [at for stop in self._stop if (at := self._text.find(stop, self._shown)) >= 0]
        if found:
            self._text = self._text[: min(found)]
        return bool(found)

    def _release(self) -> str:
        if self.finish_reason in ("eos", "length", "cancelled"):
            self._complete_text()
        end = len(self._text)
        if self.finish_reason is None:
            end -= max((_held_back(self._text, stop) for stop in self._stop), default=0)
        shown, self._shown = self._text[self._shown : end], max(end, self._shown)
        return shown

    def _complete_text(self) -> None:
        """Add what the incremental decoder still holds, such as half of a character."""
        if self._tokenizer is None:
            return
        whole = self._tokenizer.decode(self.token_ids, skip_special_tokens=True)
        if isinstance(whole, str) and whole.startswith(self._text):
            self._text = whole


def _held_back(text: str, stop: str) -> int:
    """Length of the longest proper beginning of `stop` that `text` ends with."""
    return next(
        (n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0
    )
