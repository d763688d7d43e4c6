"""How many tokens the caches of some models may hold."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence

import psutil
import torch
from transformers import PreTrainedModel

from specbranch import cgroup
from specbranch.checks import require
from specbranch.models.support import kv_shape

SHARE = 0.5  # of the free memory that caches may take, unless their size is asked for


def affordable_tokens(models: Sequence[PreTrainedModel], wanted: int, least: int) -> int:
    """So many tokens as were wanted, or, with a warning, as many as a share of the memory that is
    free on the models' devices holds; `least` at any rate.

    Raises ValueError if all of that memory does not hold so many.
    """
    bytes_of_token: dict[torch.device, int] = defaultdict(int)
    for model in models:
        shape = kv_shape(model)
        values = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim
        bytes_of_token[model.device] += values * model.dtype.itemsize
    free = min(_free(device) // size for device, size in bytes_of_token.items())
    require("max_len", f"at most {free} tokens, for which there is memory", least, least <= free)
    most = int(SHARE * free)
    if wanted <= max(most, least):
        return wanted
    tokens = max(most, least)
    warnings.warn(
        f"cache_tokens: memory is short, there is room for {tokens} tokens of all requests "
        f"together instead of {wanted}",
        stacklevel=3,
    )
    return tokens


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(int(psutil.virtual_memory().available), cgroup.free_memory())
