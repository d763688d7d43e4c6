"""Pairs of models that are somebody else's, who goes on using them.

Our forwards want linear layers laid out for few rows, and an attention of their own. So they run a
*twin*: modules and a config of its own, over the same tensors, but for linear layers on a CPU,
which it has once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from specbranch.loading.copies import sharing_copy
from specbranch.loading.pair import (
    ModelPair,
    is_made_from_target,
    lay_out_weights,
    load_draft_for,
    place_of_draft,
)
from specbranch.loading.placement import check_device
from specbranch.models.support import kv_shape, seen
from specbranch.vocabulary import Translation

_SEEN = {"_parameters", "_buffers", "_modules", "training"}  # or of no matter
_PLAIN = (str, int, float, list, tuple, dict, set)
_SAMPLES = 4


@dataclass(frozen=True)
class Draft:
    """A draft that is asked for.

    model: by its name, see `load_pair`, or itself: one that has the target's tokens.
    device, weights: of one with a name, see `load_pair`.
    tokenizer: the target's, which a draft with a tokenizer of its own needs; by default that of the
        folder or hub id that the target is from.
    """

    model: str | PreTrainedModel
    device: str | torch.device | None = None
    weights: str | None = None
    tokenizer: PreTrainedTokenizerBase | None = None


def state_of(model: nn.Module) -> int:
    """A number that is another one when what the model computes may have changed: its modules, what
    was put on them, their plain attributes, where their tensors lie, how often those were written,
    and some of their values."""
    attributes = (
        f"{name}={value!r}"
        for module in model.modules()
        for name, value in vars(module).items()
        if name not in _SEEN and isinstance(value, _PLAIN) and value
    )
    return hash((seen(model), *map(_content, _tensors(model)), *attributes))


def _content(tensor: Tensor) -> str:
    written = 0 if tensor.is_inference() else tensor._version
    stride = 1 + tensor.numel() // _SAMPLES
    return f"{written} {tensor.detach().reshape(-1)[::stride].tolist()}"


def twin_of(model: PreTrainedModel) -> PreTrainedModel:
    """A model that computes what `model`, in eval mode, computes now. Its tensors are those of
    `model`, which stays as it is, where it is.

    Raises ValueError for a model that we cannot run.
    """
    kv_shape(model)
    twin = sharing_copy(model)
    lay_out_weights(twin, borrowed=_tensors(model))
    twin.eval()
    return twin


def borrowed_pair(model: PreTrainedModel, twin: PreTrainedModel, draft: Draft) -> ModelPair:
    """A pair for prompts of token ids whose target is the twin of a model.

    Raises ValueError as `load_pair` does, and where the target's tokenizer is needed and not there.
    """
    if not isinstance(draft.model, str):
        return _pair(twin, twin_of(draft.model), type(draft.model).__name__)
    given = None if draft.device is None else check_device("draft_device", draft.device)
    device = place_of_draft(draft.model, draft.weights, model.device, given)
    needed = not is_made_from_target(draft.model)
    tokenizer: Any = (draft.tokenizer or _tokenizer_of(model)) if needed else None
    loaded, translation = load_draft_for(model, tokenizer, draft.model, device, draft.weights)
    if loaded is model:
        return _pair(twin, twin, draft.model)
    lay_out_weights(loaded, borrowed=_tensors(model))
    return _pair(twin, loaded, draft.model, translation)


def _pair(
    twin: PreTrainedModel,
    draft: PreTrainedModel,
    draft_name: str,
    translation: Translation | None = None,
) -> ModelPair:
    tokenizer: Any = None
    return ModelPair(
        target=twin,
        draft=draft,
        tokenizer=tokenizer,
        target_name=twin.name_or_path or type(twin).__name__,
        draft_name=draft_name,
        eos_token_ids=frozenset(),
        translation=translation,
    )


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _tokenizer_of(model: PreTrainedModel) -> PreTrainedTokenizerBase:
    source = model.name_or_path
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"tokenizer: expected the model's, for none is found by its name, {source!r}: {error}"
        ) from error
    return tokenizer
