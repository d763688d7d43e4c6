"""GGUF files: whole in ordinary numbers, or tensor by tensor with blocks that we multiply by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, dequantize, get_tensor_name_map
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig, PreTrainedModel
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    Gemma2TensorProcessor,
    LlamaTensorProcessor,
    TensorProcessor,
)

from specbranch.loading.gguf_file import StoredTensor, read_header
from specbranch.loading.huge_pages import return_freed_memory
from specbranch.loading.packing import pack, quantize
from specbranch.loading.quantized import HEAD_BITS, QuantizedEmbedding, QuantizedLinear, fits
from specbranch.reference.linear import GROUP

_ROWS_AT_ONCE = 4096  # of a large tensor, a multiple of a tile's
_SIMPLE = (TensorProcessor, LlamaTensorProcessor, Gemma2TensorProcessor)
"""They make one tensor of one, at most with its rows in another order or its norms shifted."""


def load_dequantized(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load a GGUF file as an ordinary model with its weights dequantised."""
    return AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=dtype,
    )


def load_blocks(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load a GGUF file tensor by tensor, with the blocks of its matrices as they are.

    Q4_0, Q4_1 and Q8_0 are kept exactly, Q6_K is rounded to 8 bits, other tensors become `dtype`.
    A model whose tensors are not one by one the file's, as with experts, is dequantised whole.

    Raises ValueError for blocks that cannot be read, and for a file without a tensor of the model.
    """
    from accelerate import init_empty_weights

    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    architecture, tensors = read_header(path)
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=config.to_dict())
    if type(processor) not in _SIMPLE:
        return load_dequantized(path, dtype)
    with init_empty_weights(include_buffers=False):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    names = _names(model, architecture)
    for stored in sorted(tensors, key=_is_weight):  # a layer's bias before its weight
        if stored.name in names:
            _put(model, names[stored.name], stored, processor, dtype)
    _tie_head(model)
    lacking = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if lacking:
        raise ValueError(f"{path}: expected a tensor for {lacking[0]}, got none")
    return_freed_memory()
    return model


def _names(model: PreTrainedModel, architecture: str) -> dict[str, str]:
    """The model's name of each tensor of a file."""
    (arch,) = (key for key, name in MODEL_ARCH_NAMES.items() if name == architecture)
    of_file = get_tensor_name_map(arch, model.config.num_hidden_layers)
    suffixes = (".weight", ".bias")
    names = {of_file.get_name(name, suffixes): name for name in model.state_dict()}
    return {name: ours for name, ours in names.items() if name is not None}


def _is_weight(stored: StoredTensor) -> bool:
    return stored.name.endswith(".weight")


def _put(
    model: PreTrainedModel,
    name: str,
    stored: StoredTensor,
    processor: TensorProcessor,
    dtype: torch.dtype,
) -> None:
    """Give the model one tensor of the file."""
    place, _, leaf = name.rpartition(".")
    module: Any = model.get_submodule(place)
    block, data = stored.kind.name, stored.read()
    if leaf != "weight" or block not in _PACKED or not fits(module):
        values = _processed(processor, stored.name, _dequantized(stored, data))
        parameter = nn.Parameter(torch.from_numpy(values.copy()).to(dtype), requires_grad=False)
        setattr(module, leaf, parameter)
        return
    order = _processed(processor, stored.name, np.arange(len(data))[:, None])[:, 0]
    weight = torch.cat(
        [
            _PACKED[block](torch.from_numpy(data[rows]).unflatten(1, (-1, _BYTES[block])))
            for rows in np.split(order, range(_ROWS_AT_ONCE, len(order), _ROWS_AT_ONCE))
        ]
    )
    if type(module) is nn.Embedding:
        model.set_submodule(place, QuantizedEmbedding(weight, module.num_embeddings, dtype))
    else:
        model.set_submodule(place, QuantizedLinear(weight, module.out_features, module.bias))


def _tie_head(model: PreTrainedModel) -> None:
    """Of a file without a tensor for it, the head is the embedding."""
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    if not head.weight.is_meta:
        return
    if isinstance(embedding, QuantizedEmbedding):
        head = QuantizedLinear(embedding.weight, head.out_features, head.bias)
        model.set_output_embeddings(head)
    else:
        head.weight = embedding.weight


def _processed(processor: TensorProcessor, name: str, values: np.ndarray) -> np.ndarray:
    weights: np.ndarray = processor.process(weights=values, name=name).weights
    return weights


def _dequantized(stored: StoredTensor, data: np.ndarray) -> np.ndarray:
    try:
        values: np.ndarray = dequantize(data, stored.kind)
    except NotImplementedError as error:
        raise ValueError(
            f"{stored.name}: expected blocks of {', '.join(_PACKED)} or of a kind that the package "
            f"gguf can read, got {stored.kind.name}"
        ) from error
    return values


# Each takes blocks uint8 [N, K / 32, bytes], or [N, K / 256, bytes], and returns a packed weight.
def _q4_0(blocks: Tensor) -> Tensor:
    scale = _half(blocks[..., :2])
    return pack(_nibbles(blocks[..., 2:]), scale, -8 * scale)


def _q4_1(blocks: Tensor) -> Tensor:
    return pack(_nibbles(blocks[..., 4:]), _half(blocks[..., :2]), _half(blocks[..., 2:4]))


def _q8_0(blocks: Tensor) -> Tensor:
    levels = blocks[..., 2:].contiguous() ^ 128  # from -128 to 127 to 0 to 255
    return pack(levels.flatten(1), _half(blocks[..., :2]))


def _q6_k(blocks: Tensor) -> Tensor:
    values = dequantize(blocks.flatten(1).numpy(), GGMLQuantizationType.Q6_K)
    return quantize(torch.from_numpy(values), HEAD_BITS)


def _half(two_bytes: Tensor) -> Tensor:
    return two_bytes.contiguous().view(torch.float16).squeeze(-1)


def _nibbles(levels: Tensor) -> Tensor:
    """[N, K / 32, 16], the low halves of the bytes being the first inputs, as [N, K]."""
    return torch.cat([levels & 15, levels >> 4], dim=-1).flatten(1)


_PACKED: dict[str, Callable[[Tensor], Tensor]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q8_0": _q8_0,
    "Q6_K": _q6_k,
}
_BYTES = {"Q4_0": 2 + GROUP // 2, "Q4_1": 4 + GROUP // 2, "Q8_0": 2 + GROUP, "Q6_K": 210}
