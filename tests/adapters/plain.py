"""What transformers' own decoding says, for ours to be compared with."""

from __future__ import annotations

import torch

PAD = 1
ONE = torch.tensor([[5, 9, 3, 30, 7]])
ROWS = torch.tensor([[5, 9, 3, 30, 7], [PAD, PAD, 3, 9, 40], [PAD, 8, 8, 2, 8]])
MASK = (ROWS != PAD).long()
GREEDY = {"do_sample": False, "max_new_tokens": 24}


def same(model, ours, ids, **asked) -> torch.Tensor:
    """What plain `generate` says, after a check that ours says the same."""
    plain = model.generate(ids, **asked)
    assert torch.equal(model.generate(ids, custom_generate=ours, **asked), plain)
    return plain
