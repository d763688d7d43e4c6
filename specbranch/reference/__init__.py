"""Every op, defined: the same names, arguments and results, in plain torch and float64.

These files are the definition of the ops; the kernels are tested against them. They loop where a
loop says it best, trust their arguments, run on CPU tensors and return floating results in float64.
Ops whose name ends in `_`, and fused_add_rms_norm, mutate.

Shapes: B requests, N nodes of the draft block, Q query rows, Hq / Hkv query / KV heads, D head_dim,
V vocabulary, R rows of logits, P pages of S slots, M table entries, W = ceil(N / 32) mask words.
Indices, lengths and positions are int32, seeds int64 (read as unsigned); -1 is padding.
"""

from specbranch.reference.attention import (
    append_kv_,
    branch_attention,
    compact_kv_,
    tree_mask,
)
from specbranch.reference.layers import (
    fused_add_rms_norm,
    gelu_tanh_and_mul,
    rms_norm,
    rope_append_kv_,
    silu_and_mul,
)
from specbranch.reference.linear import packed_linear, quantized_linear, quantized_rows
from specbranch.reference.noise import mix, philox
from specbranch.reference.sampling import draft_topk, sample, sampling_probs
from specbranch.reference.verify import verify_tree

__all__ = [
    "append_kv_",
    "branch_attention",
    "compact_kv_",
    "draft_topk",
    "fused_add_rms_norm",
    "gelu_tanh_and_mul",
    "mix",
    "packed_linear",
    "philox",
    "quantized_linear",
    "quantized_rows",
    "rms_norm",
    "rope_append_kv_",
    "sample",
    "sampling_probs",
    "silu_and_mul",
    "tree_mask",
    "verify_tree",
]
