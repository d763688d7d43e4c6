"""Prompts' beginnings that are kept; tests/engine/test_requests.py has what requests see."""

from __future__ import annotations

import torch

from specbranch.models.kv_pool import KVPool
from specbranch.models.prefixes import Prefixes


def test_what_is_spare_may_be_asked_while_a_prompt_is_remembered() -> None:
    class BusyPool(KVPool):
        """Another thread keeps a prompt whenever this one is asked."""

        def held_once(self, page: int) -> bool:
            prefixes.remember([page + 100, 1], self.take(1))
            return super().held_once(page)

    pool = BusyPool(
        num_layers=1,
        num_pages=8,
        page_size=2,
        num_kv_heads=1,
        head_dim=2,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    prefixes = Prefixes(pool, 2)
    for start in range(2):
        pages = pool.take(1)
        prefixes.remember([start, 1], pages)
        pool.give_back(pages)
    assert prefixes.num_spare == 2
