"""Paged key/value storage, addressed by a block table and kept in place by compaction."""

from __future__ import annotations

import torch
from torch import Tensor

from specbranch import ops


class PagedKVCache:
    """Keys and values of all layers, in pages that each request maps through its block table.

    Logical position `i` of request `b` lives in page `block_table[b, i // page_size]` at slot
    `i % page_size`. The pool starts uninitialised: readers never look beyond what was written.

    k, v: one tensor a layer, [P, S, Hkv, D], all of one dtype, shape and stride.
    block_table: int32 [B, M].
    """

    def __init__(
        self,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        *,
        capacity: int,
        page_size: int,
        dtype: torch.dtype,
        device: torch.device,
        num_requests: int = 1,
    ) -> None:
        """Reserve `capacity` token slots (rounded up to whole pages) for each request.

        Raises ValueError if a size is below 1.
        """
        sizes = {
            "num_layers": num_layers,
            "num_kv_heads": num_kv_heads,
            "head_dim": head_dim,
            "capacity": capacity,
            "page_size": page_size,
            "num_requests": num_requests,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"PagedKVCache: {name}: expected at least 1, got {size}")
        pages_per_request = -(-capacity // page_size)
        num_pages = num_requests * pages_per_request
        shape = (num_layers, num_pages, page_size, num_kv_heads, head_dim)
        self.k: list[Tensor] = list(torch.empty(shape, dtype=dtype, device=device).unbind())
        self.v: list[Tensor] = list(torch.empty(shape, dtype=dtype, device=device).unbind())
        self.block_table = torch.arange(num_pages, dtype=torch.int32, device=device).view(
            num_requests, pages_per_request
        )
        self.page_size = page_size
        self.capacity = capacity

    def append(self, layer: int, k: Tensor, v: Tensor, start: Tensor, row_indptr: Tensor) -> None:
        """Write each request's rows to logical positions of one layer from `start[b]` on.

        layer: index of the layer whose pages are mutated.
        k, v: [T, Hkv, D].
        start: int32 [B].
        row_indptr: int32 [B + 1], the first row of each request and the end of the last one's.
        """
        ops.append_kv_(k, v, self.k[layer], self.v[layer], self.block_table, start, row_indptr)

    def compact(self, context_lens: Tensor, keep: Tensor, keep_lens: Tensor) -> None:
        """Move position `context + keep[i]` to `context + i` in every layer, in place.

        context_lens, keep_lens: int32 [B].
        keep: int32 [B, J], each row strictly increasing over its `keep_lens[b]` entries.
        """
        ops.compact_kv_(self.k, self.v, self.block_table, context_lens, keep, keep_lens)

    def gather(self, layer: int, length: int) -> tuple[Tensor, Tensor]:
        """Copy the first `length` positions of one layer out of their pages.

        Returns k, v [B, length, Hkv, D].
        """
        pages = self.block_table[:, : -(-length // self.page_size)]
        return self._gather(self.k[layer], pages, length), self._gather(
            self.v[layer], pages, length
        )

    @staticmethod
    def _gather(pool: Tensor, pages: Tensor, length: int) -> Tensor:
        return pool[pages].flatten(1, 2)[:, :length]
