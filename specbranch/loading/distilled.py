"""A draft cut out of a target: some of its layers, its embedding, and a part of its head.

On disk it is a folder with `draft.json` and `draft.safetensors`: the layers, the last norm, and the
ids of the tokens that the head keeps. Embedding and head come from the target when it is loaded.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import PreTrainedModel

from specbranch.files import write_whole
from specbranch.loading.quantized import (
    HEAD_BITS,
    QuantizedEmbedding,
    QuantizedLinear,
    in_bits,
    round_linears,
)
from specbranch.models.support import kv_shape

CONFIG_FILE, WEIGHTS_FILE = "draft.json", "draft.safetensors"
_SCALE = ".scale"  # after the name of a matrix in int8
_N_WITNESSES = 16
_TOLERANCE = 0.02  # of the witnesses' norm: above what any dtype rounds away


@dataclass(frozen=True)
class NarrowDraft:
    """A draft whose head lacks tokens.

    model: an ordinary model of fewer layers that shares the target's embedding; its buffer
    `token_ids`, int32 [V_draft], holds the target's token of each logit. layers: those of the
    target that it began with. readout: [H, H], applied to the last hidden states before the head;
    what is loaded has it multiplied into the head.
    """

    model: PreTrainedModel
    layers: tuple[int, ...]
    readout: nn.Linear

    @property
    def token_ids(self) -> Tensor:
        return self.model.get_buffer("token_ids")


def cut_draft(target: PreTrainedModel, layers: Sequence[int], token_ids: Tensor) -> NarrowDraft:
    """Copy some layers of a target into a model of their own.

    target: with plain or quantised (not packed) linear layers; left as it is. What the draft has of
        it is in plain numbers. layers: which, in the order to run them.
    token_ids: int32 [V_draft], distinct, the rows of the target's head to keep.

    Raises ValueError for a target that we cannot run or whose layers or tokens are not there.
    """
    _check_layers(target, layers, token_ids)
    head: Any = target.get_output_embeddings()
    draft = _without_layers(target, layers, token_ids)
    for place, at in enumerate(layers):
        draft.base_model.layers.append(_copied_layer(target, at, place, draft.config))
    return NarrowDraft(draft, tuple(layers), _identity(head.in_features, target))


def _without_layers(target: PreTrainedModel, layers: Sequence[int], token_ids: Tensor) -> Any:
    """The model of `cut_draft`, before it is given its layers."""
    decoder: Any = target.base_model
    embedding = target.get_input_embeddings()
    head: Any = target.get_output_embeddings()
    # deepcopy takes what it finds in the memo instead of copying.
    memo: dict[int, Any] = {
        id(embedding): embedding,
        id(head): _narrow_head(head, token_ids, target.dtype),
        id(decoder.layers): nn.ModuleList(),
    }
    draft: Any = copy.deepcopy(target, memo)
    config = draft.config
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        config.layer_types = [target.config.layer_types[at] for at in layers]
    config.tie_word_embeddings = False
    draft.register_buffer("token_ids", token_ids.to(head.weight.device), persistent=False)
    return draft


def _copied_layer(target: PreTrainedModel, at: int, place: int, config: Any) -> Any:
    """The target's layer `at` in plain numbers, as the draft's one at `place`."""
    decoder: Any = target.base_model
    layer = decoder.layers[at]
    memo: dict[int, Any] = {id(target.config): config}
    for part in layer.modules():
        if isinstance(part, QuantizedLinear):
            memo[id(part)] = part.plain(target.dtype)
    copied = copy.deepcopy(layer, memo)
    for module in copied.modules():
        if hasattr(module, "layer_idx"):
            module.layer_idx = place
    return copied


def _check_layers(target: PreTrainedModel, layers: Sequence[int], token_ids: Tensor) -> None:
    kv_shape(target)
    head: Any = target.get_output_embeddings()
    _check_ids("layers", layers, target.config.num_hidden_layers)
    _check_ids("token_ids", token_ids.tolist(), head.out_features)
    decoder: Any = target.base_model
    if not isinstance(getattr(decoder, "layers", None), nn.ModuleList):
        raise ValueError(f"target: expected layers in `layers`, got {type(decoder).__name__}")


def _check_ids(name: str, ids: Sequence[int], bound: int) -> None:
    if not ids or len(set(ids)) != len(ids) or not 0 <= min(ids) <= max(ids) < bound:
        raise ValueError(f"{name}: expected distinct numbers below {bound}, got {list(ids)[:8]}")


def _identity(size: int, target: PreTrainedModel) -> nn.Linear:
    readout = nn.Linear(size, size, bias=False, device="meta")
    eye = torch.eye(size, dtype=target.dtype, device=target.device)
    readout.weight = nn.Parameter(eye, requires_grad=False)
    return readout


def narrow_draft(model: PreTrainedModel, columns: Sequence[int], token_ids: Sequence[int]) -> None:
    """Keep these columns of a draft's head, in place; their logits are those of the target's tokens
    `token_ids`, one a column. The model's linear layers are plain or quantised ones."""
    head: Any = model.get_output_embeddings()
    narrow: nn.Module = _narrow_head(head, torch.tensor(columns), model.dtype)
    if isinstance(head, QuantizedLinear):
        narrow = in_bits(narrow, head.bits)
    model.config.tie_word_embeddings = False
    model.set_output_embeddings(narrow)
    tokens = torch.tensor(token_ids, dtype=torch.int32, device=head.weight.device)
    model.register_buffer("token_ids", tokens, persistent=False)


def _narrow_head(head: Any, token_ids: Tensor, dtype: torch.dtype) -> nn.Linear:
    ids = token_ids.long().to(head.weight.device)
    quantized = isinstance(head, QuantizedLinear)
    rows = head.rows(ids) if quantized else head.weight.detach()[ids]
    narrow = nn.Linear(head.in_features, len(ids), head.bias is not None, device="meta")
    narrow.weight = nn.Parameter(rows.to(dtype), requires_grad=False)
    if head.bias is not None:
        narrow.bias = nn.Parameter(head.bias.detach()[ids].to(dtype), requires_grad=False)
    return narrow


def trained_modules(draft: NarrowDraft) -> dict[str, nn.Module]:
    """The parts of a draft that are its own, by the names they have on disk."""
    decoder: Any = draft.model.base_model
    return {"layers": decoder.layers, "norm": decoder.norm, "readout": draft.readout}


def save_draft(
    draft: NarrowDraft, target: PreTrainedModel, target_name: str, folder: Path, bits: int = 16
) -> None:
    """Write the draft's own weights into a folder, which then loads at every moment.

    bits: 16 for bf16, or 8 for int8 and a scale for each row of a matrix, the rest in bf16.
    Raises ValueError for others.
    """
    check_bits(bits)
    tensors = {
        f"{part}.{name}": tensor.detach().to(torch.bfloat16).contiguous()
        for part, module in trained_modules(draft).items()
        for name, tensor in module.state_dict().items()
    }
    if bits == 8:
        for name in [name for name, tensor in tensors.items() if tensor.dim() == 2]:
            tensors[name], tensors[name + _SCALE] = _int8_rows(tensors[name])
    tensors["token_ids"] = draft.token_ids.cpu()
    tensors["witnesses"] = _witnesses(target).to(torch.bfloat16)
    write_whole(folder / WEIGHTS_FILE, save(tensors))
    config = {"target": target_name, "layers": list(draft.layers), "bits": bits}
    write_whole(folder / CONFIG_FILE, json.dumps(config, indent=1) + "\n")


def _int8_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Levels int8 [n, m] and a bf16 scale [n] of each row, whose product is nearest to `weight`."""
    weight = weight.float()
    scale = (weight.abs().amax(1) / 127).clamp(min=1e-8).bfloat16()
    levels = weight / scale.float()[:, None]
    return levels.round_().clamp_(-127, 127).to(torch.int8), scale


def check_bits(bits: object) -> None:
    """Raises ValueError for bits that `save_draft` does not store."""
    if bits not in (8, 16):
        raise ValueError(f"bits: expected 8 or 16, got {bits}")


def is_distilled(folder: Path) -> bool:
    """Whether a folder holds a draft written by `save_draft`."""
    return (folder / CONFIG_FILE).is_file()


def stored_bits(folder: Path) -> int:
    """Of a distilled draft's matrices. Raises ValueError for others than `save_draft` has."""
    bits = json.loads((folder / CONFIG_FILE).read_text()).get("bits", 16)  # old files do not say
    check_bits(bits)
    return int(bits)


@torch.no_grad()
def load_draft(
    folder: Path, target: PreTrainedModel, device: torch.device, bits: int | None = None
) -> PreTrainedModel:
    """Load a distilled draft for the target that it shares its embedding with.

    target: with plain or quantised linear layers. device: of the draft; on another than the
    target's it gets a copy of the embedding. bits: what its layers are rounded to, one after
    another, so that it never stands there in plain numbers; None for the target's dtype.
    Raises ValueError if the draft was made from another model, or is stored in another way than
    `save_draft` has.
    """
    config = json.loads((folder / CONFIG_FILE).read_text())
    stored_bits(folder)
    tensors = load_file(folder / WEIGHTS_FILE)
    _check_made_from(target, tensors.pop("witnesses"), config["target"])
    token_ids, layers = tensors.pop("token_ids"), config["layers"]
    _check_layers(target, layers, token_ids)
    draft = _without_layers(target, layers, token_ids)
    for place, at in enumerate(layers):
        layer = _copied_layer(target, at, place, draft.config)
        layer.load_state_dict(_taken(tensors, f"layers.{place}."))
        if bits:
            round_linears(layer, bits)
        draft.base_model.layers.append(layer)
    draft.base_model.norm.load_state_dict(_taken(tensors, "norm."))
    head = draft.get_output_embeddings()
    head.weight.copy_(head.weight @ _taken(tensors, "readout.")["weight"].to(head.weight.dtype))
    if bits:
        draft.set_output_embeddings(in_bits(head, HEAD_BITS))
    if device == target.device:
        return draft
    apart = copy.deepcopy(draft)
    return apart.to(device)


def _taken(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors out of a file, by their names after the prefix, those of int8 in plain numbers."""
    names = [name for name in tensors if name.startswith(prefix) and not name.endswith(_SCALE)]
    taken = {}
    for name in names:
        tensor, scale = tensors.pop(name), tensors.pop(name + _SCALE, None)
        plain = tensor if scale is None else tensor.float() * scale.float()[:, None]
        taken[name.removeprefix(prefix)] = plain
    return taken


def _witnesses(target: PreTrainedModel) -> Tensor:
    """Rows of the target's embedding, evenly spaced, by which a draft knows it again."""
    embedding: Any = target.get_input_embeddings()
    rows = torch.linspace(0, embedding.num_embeddings - 1, _N_WITNESSES).long()
    if isinstance(embedding, QuantizedEmbedding):
        return embedding.rows(rows)
    witnesses: Tensor = embedding.weight.detach()[rows.to(target.device)].float().cpu()
    return witnesses


def _check_made_from(target: PreTrainedModel, witnesses: Tensor, name: str) -> None:
    ours, theirs = _witnesses(target), witnesses.float()
    if ours.shape == theirs.shape and (ours - theirs).norm() <= _TOLERANCE * theirs.norm():
        return
    raise ValueError(
        f"draft: expected the target that it was distilled from, {name} with embedding "
        f"rows like its own {list(theirs.shape)}, got a {type(target).__name__} with others "
        f"({list(ours.shape)})"
    )
