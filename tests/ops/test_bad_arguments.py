"""Every bad argument is a ValueError that names it, and an op that refuses has written nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from specbranch import _C
from tests.ops.calls import CALLS, Arguments
from tests.ops.cases import int32


def tensors_of(arguments: Arguments) -> list[Tensor]:
    return [t for t in torch.utils._pytree.tree_leaves(arguments) if isinstance(t, Tensor)]


def assert_refused(name: str, arguments: Arguments, culprit: str) -> None:
    before = [t.clone() for t in tensors_of(arguments)]
    op_name = name.removesuffix("_out")
    message = rf"^{re.escape(op_name)}: {re.escape(culprit)}: expected .+, got .+"
    with pytest.raises(ValueError, match=message):
        getattr(torch.ops.specbranch, name)(**arguments)
    for tensor, value in zip(tensors_of(arguments), before, strict=True):
        torch.testing.assert_close(tensor, value, rtol=0, atol=0, equal_nan=True)


TENSORS = [
    (name, argument)
    for name, call in CALLS.items()
    for argument, value in call().items()
    if isinstance(value, Tensor)
]
LISTS = [("compact_kv_", "k_caches"), ("compact_kv_", "v_caches")]
PRODUCTS = [
    *((name, "weight") for name in ("packed_linear", "quantized_linear", "quantized_rows")),
    ("quantized_rows", "ids"),
]
OPTIONAL = {"draft_probs", "draw", "allowed", "token_ids", "bias", "q_norm", "k_norm"}
FIRST_OF_THEIR_SIZE = {
    *(("tree_mask", "parents"), ("tree_mask_out", "parents")),
    *(("append_kv_", "k"), ("append_kv_", "k_cache")),
    *((name, argument) for name in CALLS for argument in ("q", "x", "cos", "logits", "candidates")),
    *(("rope_append_kv_", "k_cache"), ("rope_append_kv_", "block_table")),
    ("tree_mask_out", "ancestor_mask"),
    *(
        (name, argument)
        for name in ("branch_attention", "branch_attention_out")
        for argument in ("k_cache", "block_table")
    ),
    ("append_kv_", "block_table"),
    *((name, "target_logits") for name in ("verify_tree", "verify_tree_out")),
    ("compact_kv_", "block_table"),
    *((f"{name}{form}", argument) for form in ("", "_out") for name, argument in PRODUCTS),
}
"""Arguments whose leading size is not settled by an earlier one."""


def change(arguments: Arguments, argument: str, edit: Callable[[Tensor], Tensor]) -> Arguments:
    value = arguments[argument]
    edited = [value[0], *map(edit, value[1:])] if isinstance(value, list) else edit(value)
    return {**arguments, argument: edited}


@pytest.mark.parametrize(("name", "argument"), TENSORS + LISTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.int16])
def test_dtype(name, argument, dtype):
    assert_refused(name, change(CALLS[name](), argument, lambda t: t.to(dtype)), argument)


@pytest.mark.parametrize(("name", "argument"), TENSORS + LISTS)
def test_rank(name, argument):
    assert_refused(name, change(CALLS[name](), argument, lambda t: t[None]), argument)
    assert_refused(name, change(CALLS[name](), argument, lambda t: t[0]), argument)


@pytest.mark.parametrize(
    ("name", "argument"), [case for case in TENSORS + LISTS if case not in FIRST_OF_THEIR_SIZE]
)
def test_leading_size(name, argument):
    longer = change(CALLS[name](), argument, lambda t: torch.cat([t, t[-1:]]))
    assert_refused(name, longer, argument)


@pytest.mark.parametrize(("name", "argument"), TENSORS + LISTS)
def test_stride_of_the_last_dimension(name, argument):
    def spread(t: Tensor) -> Tensor:
        return t.repeat_interleave(2, dim=-1)[..., ::2]

    arguments = CALLS[name]()
    if argument in ("ancestor_mask", "allowed") and arguments[argument].shape[1] == 1:
        return  # a stride of one word means nothing
    assert_refused(name, change(arguments, argument, spread), argument)


OUTPUTS = [
    (name, a.name)
    for name in CALLS
    for a in getattr(torch.ops.specbranch, name).default._schema.arguments
    if a.alias_info is not None and a.alias_info.is_write
]


@pytest.mark.parametrize(("name", "argument"), OUTPUTS)
def test_outputs_may_not_overlap_themselves(name, argument):
    def overlap(t: Tensor) -> Tensor:
        return t[:1].expand_as(t) if t.dim() > 1 else t[:1].expand(t.shape)

    arguments = CALLS[name]()
    if argument == "workspace":  # which is optional
        (device,) = {t.device for t in arguments.values() if isinstance(t, Tensor)}
        arguments[argument] = torch.zeros(2**16, device=device)
    if name != "compact_kv_":
        assert_refused(name, change(arguments, argument, overlap), argument)
        return
    arguments[argument] = [overlap(t) for t in arguments[argument]]
    assert_refused(name, arguments, argument)


@pytest.mark.parametrize(("name", "argument"), TENSORS + LISTS)
@pytest.mark.parametrize(
    "value", [3, 0.5, None, [1, 2], np.zeros(2)], ids=lambda v: type(v).__name__
)
def test_no_tensor(name, argument, value):
    arguments = {**CALLS[name](), argument: value}
    if value is None and argument in OPTIONAL:
        return
    message = (
        rf"^{name.removesuffix('_out')}: {argument}: expected a .*, got {type(value).__name__}$"
    )
    with pytest.raises(ValueError, match=message):
        getattr(_C, name)(**arguments)
    with pytest.raises(ValueError, match=message):
        getattr(_C, name)(*arguments.values())


def half(t: Tensor) -> Tensor:
    return t.half()


def entry(*index: int, value: float) -> Callable[[Tensor], Tensor]:
    def edit(t: Tensor) -> Tensor:
        changed = t.clone()
        changed[index] = value
        return changed

    edit.__name__ = f"{list(index)}={value}"
    return edit


def the_value(value: object) -> Callable[[object], object]:
    def edit(_: object) -> object:
        return value

    edit.__name__ = str(value)
    return edit


FILTER_VALUES = [
    ("temperature", entry(1, value=-0.5)),
    ("temperature", entry(0, value=math.nan)),
    ("temperature", entry(0, value=math.inf)),
    ("top_k", entry(1, value=-1)),
    ("top_p", entry(1, value=0.0)),
    ("top_p", entry(1, value=1.5)),
    ("top_p", entry(0, value=math.nan)),
    ("min_p", entry(0, value=-0.1)),
    ("min_p", entry(1, value=1.1)),
    ("min_p", entry(0, value=math.nan)),
]
TREE_VALUES = [
    ("n_nodes", entry(0, value=5)),
    ("n_nodes", entry(1, value=-1)),
    ("parents", entry(0, 2, value=2)),
    ("parents", entry(1, 1, value=3)),
    ("parents", entry(0, 1, value=-2)),
]
ROW_VALUES = [
    ("row_indptr", entry(0, value=1)),
    ("row_indptr", entry(1, value=6)),
    ("row_indptr", entry(2, value=6)),
]
VALUES_OF_LAST_NODES = [
    *ROW_VALUES,
    ("row_indptr", entry(1, value=5)),
    ("row_indptr", entry(1, value=1)),
]
APPEND_VALUES = [
    ("v", half),
    ("k_cache", half),
    ("v_cache", half),
    ("start", entry(0, value=-1)),
    *ROW_VALUES,
    ("block_table", entry(0, 1, value=5)),
    ("block_table", entry(1, 1, value=-1)),
    ("block_table", lambda t: t[:, :1]),
]
NORM_VALUES = [("weight", half), ("weight", lambda t: t[:47])]
VALUES = {
    "tree_mask": [*TREE_VALUES, *VALUES_OF_LAST_NODES],
    "append_kv_": APPEND_VALUES,
    "rope_append_kv_": [
        *APPEND_VALUES,
        ("k", half),
        ("q", lambda t: t.repeat(1, 1, 17)),
        ("position_ids", entry(0, value=40)),
        ("position_ids", entry(4, value=-1)),
        ("cos", half),
        ("cos", lambda t: t.repeat(1, 2)),
        ("cos", lambda t: t.repeat(2, 1)[::2]),
        ("sin", lambda t: t.repeat(2, 1)[::2]),
        ("sin", lambda t: t[:, :5]),
        ("q_norm", half),
        ("k_norm", lambda t: t[:8]),
    ],
    "rms_norm": NORM_VALUES,
    "fused_add_rms_norm": [*NORM_VALUES, ("residual", half), ("residual", lambda t: t[:, :47])],
    "silu_and_mul": [("x", lambda t: t[:, :47])],
    "gelu_tanh_and_mul": [("x", lambda t: t[:, :47])],
    "branch_attention": [
        ("k_cache", half),
        ("v_cache", half),
        ("q", lambda t: t[..., :5, :]),
        ("context_lens", entry(0, value=-1)),
        ("n_nodes", entry(0, value=-1)),
        ("n_nodes", entry(0, value=33)),
        ("block_table", entry(0, 1, value=6)),
        ("block_table", entry(1, 2, value=-1)),
        ("block_table", lambda t: t[:, :2]),
        *VALUES_OF_LAST_NODES,
        ("softcap", the_value(-1.0)),
        ("window", the_value(-1)),
    ],
    "compact_kv_": [
        ("k_caches", the_value([])),
        ("v_caches", lambda caches: caches[:1]),
        ("k_caches", lambda caches: [caches[0], caches[1].half()]),
        ("v_caches", lambda caches: [c.half() for c in caches]),
        (
            "v_caches",
            lambda caches: [caches[0], caches[1].transpose(0, 1).contiguous().transpose(0, 1)],
        ),
        ("context_lens", entry(0, value=-1)),
        ("keep_lens", entry(0, value=4)),
        ("keep_lens", entry(0, value=-1)),
        ("keep", entry(0, 1, value=0)),
        ("keep", entry(0, 0, value=-1)),
        ("block_table", entry(0, 1, value=6)),
        ("block_table", lambda t: t[:, :1]),
    ],
    "sampling_probs": FILTER_VALUES,
    "sample": FILTER_VALUES,
    "draft_topk": [
        *FILTER_VALUES,
        ("k", the_value(0)),
        ("k", the_value(-3)),
        ("coupling", the_value("typical")),
        ("token_ids", entry(3, value=-1)),
    ],
    "verify_tree": [
        *FILTER_VALUES,
        *TREE_VALUES,
        ("parents", entry(0, 0, value=0)),
        ("parents", entry(0, 1, value=-1)),
        ("row_indptr", entry(0, value=1)),
        ("row_indptr", entry(1, value=-1)),
        ("row_indptr", entry(1, value=6)),
        ("row_indptr", entry(2, value=2)),
        ("row_indptr", entry(2, value=7)),
        ("row_indptr", entry(1, value=0)),  # more rows than the other request has nodes
        ("candidates", entry(0, 2, value=9)),
        ("candidates", entry(0, 2, value=-1)),
        ("draft_probs", lambda t: t[:, :8]),
        ("draft_probs", lambda t: t[:5]),
        ("draw", the_value(None)),
    ],
    "packed_linear": [
        ("weight", half),
        ("weight", lambda t: t[..., :31]),
        ("weight", lambda t: t.transpose(0, 1).contiguous().transpose(0, 1)),
        ("out_features", the_value(65)),
        ("out_features", the_value(32)),
        ("bias", half),
    ],
    "quantized_linear": [
        ("x", lambda t: t[:, :80]),
        ("x", lambda t: t[:, :0]),
        ("weight", lambda t: t[:, :2]),
        ("weight", lambda t: t[..., :319]),
        ("weight", lambda t: t.transpose(0, 1).contiguous().transpose(0, 1)),
        ("out_features", the_value(49)),
        ("out_features", the_value(32)),
        ("bias", half),
    ],
    "quantized_rows": [
        ("weight", lambda t: t[..., :543]),
        ("ids", entry(1, value=48)),
        ("ids", entry(1, value=-1)),
    ],
}
CASES = [
    pytest.param(name, argument, edit, id=f"{name}-{argument}-{edit.__name__}")
    for op in VALUES
    for name in (op, f"{op}_out")
    if name in CALLS
    for argument, edit in VALUES[op]
]


@pytest.mark.parametrize(("name", "argument", "edit"), CASES)
def test_values(name, argument, edit):
    arguments = CALLS[name]()
    assert_refused(name, {**arguments, argument: edit(arguments[argument])}, argument)


def test_a_head_dim_that_no_kernel_has():
    for head_dim in (12, 264):
        arguments = CALLS["branch_attention"]()
        for argument in ("q", "k_cache", "v_cache"):
            arguments[argument] = arguments[argument].new_zeros(
                *arguments[argument].shape[:-1], head_dim
            )
        assert_refused("branch_attention", arguments, "q")


def test_a_negative_number_of_rows():
    assert_refused("tree_mask", {**CALLS["tree_mask"](), "num_rows": -1}, "num_rows")


def test_draws_without_their_law():
    assert_refused("verify_tree", {**CALLS["verify_tree"](), "draft_probs": None}, "draw")


def test_a_workspace_that_is_too_small():
    arguments = {**CALLS["branch_attention_out"](), "workspace": torch.zeros(1)}
    # A workspace is needed where the context is worth splitting.
    arguments["k_cache"], arguments["v_cache"] = torch.zeros(2, 1, 100_000, 2, 16)
    arguments["block_table"] = int32([[0], [0]])
    arguments["context_lens"] = int32([90_000, 90_000])
    assert_refused("branch_attention_out", arguments, "workspace")


@pytest.mark.parametrize("name", ["branch_attention", "branch_attention_out"])
@pytest.mark.parametrize("split_size", [-64, 1, 100, 2**32])
def test_a_split_size_that_cuts_tiles(name, split_size):
    assert_refused(name, {**CALLS[name](), "split_size": split_size}, "split_size")


def test_a_split_size_that_makes_too_many_splits():
    arguments = CALLS["branch_attention"]()
    arguments["block_table"] = int32([[3] * 2000, [3] * 2000])
    assert_refused("branch_attention", {**arguments, "split_size": 64}, "split_size")
    _C.branch_attention(**{**arguments, "split_size": 128})


def takes_a_workspace(name: str) -> bool:
    arguments = getattr(torch.ops.specbranch, name).default._schema.arguments
    return arguments[-1].name == "workspace"


@pytest.mark.parametrize("name", [name for name in CALLS if takes_a_workspace(name)])
@pytest.mark.parametrize(
    "workspace",
    [
        torch.zeros(64, dtype=torch.int32),
        torch.zeros(64, dtype=torch.float64),
        torch.zeros(2**20, 1),
        torch.zeros(2**21)[::2],
        torch.zeros(1).expand(2**20),
    ],
    ids=["int32", "float64", "matrix", "spread", "overlapping"],
)
def test_a_workspace_of_another_kind(name, workspace):
    assert_refused(name, {**CALLS[name](), "workspace": workspace}, "workspace")


@pytest.mark.parametrize("name", ["sampling_probs", "sample", "draft_topk", "verify_tree"])
def test_a_workspace_that_is_not_aligned(name):
    arguments = {**CALLS[f"{name}_out"](), "workspace": torch.zeros(2**20)[1:]}
    assert_refused(f"{name}_out", arguments, "workspace")


def test_sizes_of_a_workspace_are_not_negative():
    with pytest.raises(ValueError, match="expected sizes of at least 0, got -1"):
        _C.sample_workspace_size(-1, 8)
    with pytest.raises(ValueError, match="expected sizes of at least 0, got -3"):
        _C.verify_tree_workspace_size(1, -3, 8)


def test_the_message_says_what_was_wanted_and_what_came():
    arguments = CALLS["branch_attention"]()
    arguments["block_table"] = arguments["block_table"].long()
    message = "branch_attention: block_table: expected int32 [B, M], got int64 [2, 3]"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        torch.ops.specbranch.branch_attention(**arguments)
