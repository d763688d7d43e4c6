"""Models that share what weighs."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn
from transformers import PreTrainedModel


def sharing_copy(model: PreTrainedModel) -> PreTrainedModel:
    """The same model again, with modules and a config of its own, over the same tensors.

    Its embedding is the model's, and hooks are the same functions.
    """
    shared = [*model.parameters(), *model.buffers(), model.get_input_embeddings(), *_hooks(model)]
    # deepcopy takes what it finds in the memo instead of copying.
    memo: dict[int, Any] = {id(each): each for each in shared}
    copied: PreTrainedModel = copy.deepcopy(model, memo)
    return copied


def _hooks(model: nn.Module) -> list[Any]:
    kinds = ("_forward_pre_hooks", "_forward_hooks")
    return [
        hook for module in model.modules() for kind in kinds for hook in vars(module)[kind].values()
    ]
