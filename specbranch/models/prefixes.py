"""Beginnings of prompts whose keys and values are still there: they need no second reading."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from itertools import takewhile

import numpy as np

from specbranch.models.kv_pool import KVPool


class Prefixes:
    """Whole chunks of prompts in a pool, each found by all tokens from the prompt's first on.

    A chunk's keys and values are a function of those tokens, so whoever finds it has what reading
    it would give, to the bit. It is held here, and by the requests that began with it, until room
    is needed: then the one that was longest out of use goes, with all that continues it.

    chunk: tokens of a chunk, a multiple of the pool's page size.
    hits: tokens that were found so far, of `asked` ones in whole chunks.
    """

    def __init__(self, pool: KVPool, chunk: int) -> None:
        self._pool = pool
        self._chunk = chunk
        self._pages: OrderedDict[bytes, list[int]] = OrderedDict()  # the latest used last
        self.hits = self.asked = 0

    @property
    def num_spare(self) -> int:
        """Pages that nobody else holds: `make_room` would free them. Any thread may ask."""
        held_once, chunks = self._pool.held_once, list(self._pages.values())
        return sum(held_once(page) for pages in chunks for page in pages)

    def hold(self, tokens: Sequence[int]) -> list[int]:
        """Pages of the known chunks that `tokens` begin with, held once more."""
        keys = self._keys(tokens)
        known = list(takewhile(self._pages.__contains__, keys))
        found = [page for key in known for page in self._pages[key]]
        self._pool.share(found)
        self._use(known)
        self.hits += len(known) * self._chunk
        self.asked += len(keys) * self._chunk
        return found

    def remember(self, tokens: Sequence[int], pages: Sequence[int]) -> None:
        """Keep the whole chunks of a prompt that was read; `pages` are the reader's."""
        size = self._chunk // self._pool.page_size
        keys = self._keys(tokens)
        for place, key in enumerate(keys):
            if key not in self._pages:
                self._pages[key] = list(pages[place * size : (place + 1) * size])
                self._pool.share(self._pages[key])
        self._use(keys)

    def make_room(self, count: int) -> None:
        """Let go of the longest unused until so many pages are free, or nothing is left."""
        while self._pages and self._pool.num_free < count:
            _, pages = self._pages.popitem(last=False)
            self._pool.give_back(pages)

    def _use(self, keys: Sequence[bytes]) -> None:
        for key in reversed(keys):  # a beginning outlives what continues it
            self._pages.move_to_end(key)

    def _keys(self, tokens: Sequence[int]) -> list[bytes]:
        """Of each whole chunk, a digest of everything up to its end."""
        keys, digest = [], blake2b(digest_size=32)
        for end in range(self._chunk, len(tokens) + 1, self._chunk):
            digest.update(np.asarray(tokens[end - self._chunk : end], np.int64).tobytes())
            keys.append(digest.copy().digest())
        return keys
