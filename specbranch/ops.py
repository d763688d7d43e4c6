"""The ops of SpecBranch, as registered with torch (`torch.ops.specbranch.*`).

Shapes, dtypes and what is mutated stand in `_C.pyi`. Every op runs on CPU and CUDA tensors, works
under torch.compile, and raises ValueError for an argument of the wrong shape, dtype or device.
`mix` and the workspace sizes are plain functions of the host.
"""

from __future__ import annotations

from specbranch._C import (
    append_kv_,
    branch_attention,
    branch_attention_out,
    branch_attention_workspace_size,
    compact_kv_,
    draft_topk,
    draft_topk_out,
    draft_topk_workspace_size,
    mix,
    sample,
    sample_out,
    sample_workspace_size,
    sampling_probs,
    sampling_probs_out,
    sampling_probs_workspace_size,
    tree_mask,
    tree_mask_out,
    verify_tree,
    verify_tree_out,
    verify_tree_workspace_size,
)

__all__ = [
    "append_kv_",
    "branch_attention",
    "branch_attention_out",
    "branch_attention_workspace_size",
    "compact_kv_",
    "draft_topk",
    "draft_topk_out",
    "draft_topk_workspace_size",
    "mix",
    "sample",
    "sample_out",
    "sample_workspace_size",
    "sampling_probs",
    "sampling_probs_out",
    "sampling_probs_workspace_size",
    "tree_mask",
    "tree_mask_out",
    "verify_tree",
    "verify_tree_out",
    "verify_tree_workspace_size",
]
