"""A valid call of every op: its arguments by name, in the order of its schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from specbranch import reference
from specbranch.loading import packing
from tests.ops.cases import int32

Arguments = dict[str, Any]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _tree_mask_out() -> Arguments:
    return {
        "parents": int32([[-1, 0, 0, 1], [-1, 0, 1, 2]]),
        "n_nodes": int32([4, 3]),
        "row_indptr": int32([0, 3, 5]),
    }


def tree_mask() -> Arguments:
    return {**_tree_mask_out(), "num_rows": 5}


def append_kv_() -> Arguments:
    k, v = torch.randn(2, 5, 2, 16, generator=_generator())
    k_cache, v_cache = torch.randn(2, 5, 4, 2, 16, generator=_generator())
    return {
        "k": k,
        "v": v,
        "k_cache": k_cache,
        "v_cache": v_cache,
        "block_table": int32([[3, 1], [0, 4]]),
        "start": int32([2, 5]),
        "row_indptr": int32([0, 3, 5]),
    }


def branch_attention() -> Arguments:
    k_cache, v_cache = torch.randn(2, 6, 4, 2, 16, generator=_generator())
    return {
        "q": torch.randn(5, 6, 16, generator=_generator()),
        "k_cache": k_cache,
        "v_cache": v_cache,
        "block_table": int32([[3, 1, 0], [3, 5, 2]]),
        "context_lens": int32([5, 6]),
        "n_nodes": int32([4, 3]),
        "row_indptr": int32([0, 3, 5]),
        "ancestor_mask": reference.tree_mask(**tree_mask())[0],
        "scale": 0.25,
        "softcap": 0.0,
        "window": 0,
        "split_size": 0,
    }


def rms_norm() -> Arguments:
    x, (weight, *_) = torch.randn(2, 5, 48, generator=_generator())
    return {"x": x, "weight": weight, "eps": 1e-6, "offset": 1.0}


def fused_add_rms_norm() -> Arguments:
    arguments = rms_norm()
    residual = torch.randn(5, 48, generator=_generator())
    return {"x": arguments.pop("x"), "residual": residual, **arguments}


def silu_and_mul() -> Arguments:
    return {"x": torch.randn(5, 48, generator=_generator())}


def gelu_tanh_and_mul() -> Arguments:
    return silu_and_mul()


def rope_append_kv_() -> Arguments:
    q, (norms, *_) = torch.randn(2, 5, 6, 16, generator=_generator())
    angles = torch.randn(40, 6, generator=_generator())  # of 12 dimensions of 16
    return {
        "q": q,
        **append_kv_(),
        "position_ids": int32([2, 3, 3, 5, 39]),
        "cos": angles.cos(),
        "sin": angles.sin(),
        "q_norm": norms[0],
        "k_norm": norms[1],
        "eps": 1e-6,
        "offset": 0.0,
    }


def compact_kv_() -> Arguments:
    caches = torch.randn(4, 6, 4, 2, 16, generator=_generator()).unbind()
    return {
        "k_caches": list(caches[:2]),
        "v_caches": list(caches[2:]),
        "block_table": int32([[3, 1, 0], [4, 5, 2]]),
        "context_lens": int32([3, 5]),
        "keep": int32([[0, 2, 5], [1, 4, 0]]),
        "keep_lens": int32([3, 2]),
    }


def _filters() -> Arguments:
    return {
        "temperature": torch.tensor([0.7, 1.0]),
        "top_k": int32([5, 0]),
        "top_p": torch.tensor([0.9, 1.0]),
        "min_p": torch.tensor([0.0, 0.05]),
    }


def _draws() -> Arguments:
    return {**_filters(), "seed": torch.tensor([3, -4]), "position": int32([7, 8])}


def _logits() -> Arguments:
    return {"logits": torch.randn(2, 50, generator=_generator())}


def sampling_probs() -> Arguments:
    return {**_logits(), **_filters()}


def sample() -> Arguments:
    allowed = int32([[-5, 2**17 + 3], [6, -1]])
    return {**_logits(), **_draws(), "allowed": allowed}


def draft_topk() -> Arguments:
    token_ids = torch.arange(50, dtype=torch.int32) * 3
    return {**_logits(), "k": 4, **_draws(), "coupling": "gumbel", "token_ids": token_ids}


def verify_tree() -> Arguments:
    logits = torch.randn(6, 9, generator=_generator())  # the last row is padding
    return {
        "candidates": int32([[0, 1, 2, 3], [4, 5, 6, 7]]),
        "parents": int32([[-1, 0, 0, 1], [-1, 0, 1, 2]]),
        "n_nodes": int32([4, 3]),
        "row_indptr": int32([0, 3, 5]),
        "target_logits": logits,
        **_draws(),
        "draft_probs": logits.roll(1, -1).softmax(-1),
        "draw": torch.tensor([[0, 1, 0, 1], [0, 1, 1, 0]], dtype=torch.uint8),
        "allowed": int32([[509], [-1], [447], [511], [7], [0]]),
    }


def quantized_linear() -> Arguments:
    x, weight = torch.randn(45, 96, generator=_generator()).split([5, 40])
    return {
        "x": x,
        "weight": packing.quantize(weight, 4),
        "out_features": 40,
        "bias": torch.randn(40, generator=_generator()),
    }


def packed_linear() -> Arguments:
    x, weight = torch.randn(45, 96, generator=_generator()).split([5, 40])
    bias = torch.randn(40, generator=_generator())
    return {"x": x, "weight": packing.lay_out(weight), "out_features": 40, "bias": bias}


def quantized_rows() -> Arguments:
    weight = torch.randn(40, 96, generator=_generator())
    return {"weight": packing.quantize(weight, 8), "ids": int32([3, 39, 0])}


FUNCTIONAL: dict[str, Callable[[], Arguments]] = {
    op.__name__: op
    for op in (
        *(tree_mask, branch_attention, sampling_probs, sample, draft_topk, verify_tree),
        *(rms_norm, silu_and_mul, gelu_tanh_and_mul),
        *(packed_linear, quantized_linear, quantized_rows),
    )
}
IN_PLACE: dict[str, Callable[[], Arguments]] = {
    op.__name__: op for op in (append_kv_, rope_append_kv_, compact_kv_, fused_add_rms_norm)
}


def _int32(*sizes: int) -> torch.Tensor:
    return torch.full(sizes, -77, dtype=torch.int32)


def _float32(*sizes: int) -> torch.Tensor:
    return torch.full(sizes, -77.0)


OUTPUTS: dict[str, Callable[[], Arguments]] = {
    "tree_mask": lambda: {"ancestor_mask": _int32(5, 1), "depth": _int32(5)},
    "branch_attention": lambda: {"out": _float32(5, 6, 16), "lse": _float32(5, 6)},
    "sampling_probs": lambda: {"probs": _float32(2, 50)},
    "sample": lambda: {"ids": _int32(2)},
    "draft_topk": lambda: {
        "ids": _int32(2, 4),
        "estimates": _float32(2, 4),
        "max_prob": _float32(2),
        "entropy": _float32(2),
    },
    "verify_tree": lambda: {
        "path": _int32(2, 4),
        "path_len": _int32(2),
        "next_token": _int32(2),
        "winner": _int32(2),
        "status": _int32(2),
    },
    "rms_norm": lambda: {"out": _float32(5, 48)},
    "silu_and_mul": lambda: {"out": _float32(5, 24)},
    "gelu_tanh_and_mul": lambda: {"out": _float32(5, 24)},
    "packed_linear": lambda: {"out": _float32(5, 40)},
    "quantized_linear": lambda: {"out": _float32(5, 40)},
    "quantized_rows": lambda: {"out": _float32(3, 96)},
}


INPUTS = {**FUNCTIONAL, "tree_mask": _tree_mask_out}
"""Of the _out forms."""


def _with_outputs(name: str) -> Callable[[], Arguments]:
    return lambda: {**INPUTS[name](), **OUTPUTS[name]()}


CALLS: dict[str, Callable[[], Arguments]] = {
    **FUNCTIONAL,
    **IN_PLACE,
    **{f"{name}_out": _with_outputs(name) for name in FUNCTIONAL},
}
"""Every op, with fresh arguments at each call."""

CPU_ONLY = {name for name in CALLS if name.startswith(("packed_", "quantized_"))}
ON_CUDA = {name: call for name, call in CALLS.items() if name not in CPU_ONLY}
