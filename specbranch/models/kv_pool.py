"""Paged key/value storage: pages that requests hold, addressed by block tables."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class KVPool:
    """Keys and values of all layers, in pages that each request maps through its block table.

    Logical position `i` of a request lives in page `pages[i // page_size]` at slot `i % page_size`.
    The pool starts uninitialised: readers never look beyond what was written.

    k, v: one tensor a layer, [P, S, Hkv, D], all of one dtype, shape and stride.
    """

    def __init__(
        self,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        *,
        num_pages: int,
        page_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """Reserve `num_pages` pages. Raises ValueError if a size is below 1."""
        sizes = {
            "num_layers": num_layers,
            "num_kv_heads": num_kv_heads,
            "head_dim": head_dim,
            "num_pages": num_pages,
            "page_size": page_size,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"KVPool: {name}: expected at least 1, got {size}")
        shape = (num_layers, num_pages, page_size, num_kv_heads, head_dim)
        self.k: list[Tensor] = list(torch.empty(shape, dtype=dtype, device=device).unbind())
        self.v: list[Tensor] = list(torch.empty(shape, dtype=dtype, device=device).unbind())
        self.page_size = page_size
        self.num_pages = num_pages
        self._free = list(range(num_pages - 1, -1, -1))
        self._holders = [0] * num_pages

    @property
    def num_free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    def pages_for(self, num_tokens: int) -> int:
        """Pages that so many tokens fill."""
        return -(-num_tokens // self.page_size)

    def take(self, count: int) -> list[int]:
        """So many pages, each held once. Raises ValueError, and takes none, if fewer are free."""
        if count > len(self._free):
            raise ValueError(f"count: expected at most {len(self._free)} free pages, got {count}")
        taken = [self._free.pop() for _ in range(count)]
        self.share(taken)
        return taken

    def share(self, pages: Iterable[int]) -> None:
        """Hold pages once more."""
        for page in pages:
            self._holders[page] += 1

    def give_back(self, pages: Iterable[int]) -> None:
        """Hold pages once less; those that nobody holds are free again."""
        for page in pages:
            self._holders[page] -= 1
            if not self._holders[page]:
                self._free.append(page)

    def held_once(self, page: int) -> bool:
        """Whether one holder alone has it."""
        return self._holders[page] == 1

    def gather(self, layer: int, block_table: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Copy the first `length` positions of one layer out of their pages.

        block_table: int32 [B, M]. Returns k, v [B, length, Hkv, D].
        """
        pages = block_table[:, : self.pages_for(length)]
        return tuple(
            pool[pages].flatten(1, 2)[:, :length] for pool in (self.k[layer], self.v[layer])
        )  # type: ignore[return-value]
