"""Texts that follow a JSON schema, token by token, by xgrammar."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from specbranch.extras import needs
from specbranch.models.transfers import sent
from specbranch.rules import Columns, Paths


class Grammars:
    """Makes rules for texts of one tokenizer; what was compiled is kept.

    vocab_size: of the target's logits.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size

    def rule(
        self, schema: str | Mapping[str, Any], num_prompt_tokens: int, ends: Collection[int]
    ) -> Grammar:
        """The rule of one request, which ends with one of `ends` as soon as the text is whole, and
        no sooner.

        Raises ValueError for what is no schema, and where nothing could end the text; ImportError
        without xgrammar.
        """
        if not ends:
            raise ValueError("json_schema: expected a token that ends the text, got none")
        compiled = self.compile(schema)
        matcher = self._xgrammar.GrammarMatcher(compiled, override_stop_tokens=sorted(ends))
        return Grammar(matcher, self._vocab_size, num_prompt_tokens)

    def compile(self, schema: str | Mapping[str, Any]) -> Any:
        """What may take a while the first time. Raises as `rule` does."""
        text = schema if isinstance(schema, str) else json.dumps(schema)
        try:
            return self._compiler.compile_json_schema(text)
        except RuntimeError as error:
            raise ValueError(
                f"json_schema: expected a JSON schema, got another: {error}"
            ) from error

    @cached_property
    def _compiler(self) -> Any:
        xgrammar = self._xgrammar
        info = xgrammar.TokenizerInfo.from_huggingface(self._tokenizer, vocab_size=self._vocab_size)
        return xgrammar.GrammarCompiler(info)

    @cached_property
    def _xgrammar(self) -> Any:
        with needs("grammar", "json_schema"):
            import xgrammar
        return xgrammar


class Grammar:
    """Rules out what the grammar does not allow after the text of each row; a `Rule`."""

    def __init__(self, matcher: Any, vocab_size: int, num_prompt_tokens: int) -> None:
        self._matcher = matcher
        self._words = -(-vocab_size // 32)
        self._read = num_prompt_tokens

    def apply_(self, logits: Tensor, columns: Columns, committed: list[int], paths: Paths) -> None:
        for token in committed[self._read :]:
            self._matcher.accept_token(token)
        self._read = len(committed)
        allowed = torch.full((len(paths), self._words), -1, dtype=torch.int32)
        for row, path in enumerate(paths):
            self._fill(allowed, row, path)
        words, bits = columns.in_bitmask
        taken = sent(allowed.numpy(), logits.device)[:, sent(words, logits.device)]
        logits.masked_fill_((taken >> sent(bits, logits.device)) & 1 == 0, -torch.inf)

    def _fill(self, allowed: Tensor, row: int, path: Sequence[int]) -> None:
        """After a path that the grammar does not allow nothing is decided: all may come."""
        accepted = 0
        for token in path:
            if self._matcher.is_terminated() or not self._matcher.accept_token(token):
                break
            accepted += 1
        if accepted == len(path) and not self._matcher.is_terminated():
            self._matcher.fill_next_token_bitmask(allowed, row)
        self._matcher.rollback(accepted)
