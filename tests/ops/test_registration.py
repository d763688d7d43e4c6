"""The ops as torch sees them: schemas, fakes, opcheck, the two names and the two forms."""

from __future__ import annotations

import inspect
import pydoc
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specbranch import _C, ops
from tests.ops.calls import CALLS, FUNCTIONAL, INPUTS, OUTPUTS, Arguments
from tests.ops.cases import attention_cases, int32
from tests.ops.layouts import HEAD_LAYOUTS, MATRIX_LAYOUTS, contiguous


def op(name: str):
    return getattr(torch.ops.specbranch, name)


def results(name: str, *arguments, **named) -> tuple[torch.Tensor, ...]:
    found = op(name)(*arguments, **named)
    return found if isinstance(found, tuple) else (found,)


def assert_same_bits(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", CALLS)
def test_opcheck(name):
    torch.library.opcheck(op(name).default, (), CALLS[name]())


@pytest.mark.parametrize("name", CALLS)
def test_one_implementation_has_two_names(name):
    assert getattr(ops, name) is getattr(_C, name)
    ours, theirs = CALLS[name](), CALLS[name]()
    returned = (getattr(ops, name)(**ours), ours), (op(name)(**theirs), theirs)
    for tensor, expected in zip(*map(torch.utils._pytree.tree_leaves, returned), strict=True):
        if isinstance(tensor, torch.Tensor):
            assert_same_bits(tensor, expected)


def test_the_contract_is_a_number_that_the_changelog_names():
    changelog = (Path(__file__).parents[2] / "CHANGELOG.md").read_text()
    newest = re.search(
        r"`specbranch\._C\.contract` counts .*?; it is (\d+)\.", changelog, re.DOTALL
    )
    assert _C.contract == int(newest[1])


@pytest.mark.parametrize("name", CALLS)
def test_help_tells_arguments_and_errors(name):
    text = pydoc.plain(pydoc.render_doc(getattr(_C, name)))
    assert re.search(rf"\b{name}\({next(iter(CALLS[name]()))}: ", text)
    assert "ValueError" in text
    arguments = op(name).default._schema.arguments
    assert list(inspect.signature(getattr(_C, name)).parameters) == [a.name for a in arguments]
    for a in arguments:
        if a.alias_info is not None and a.alias_info.is_write:
            assert re.search(rf"Mutates[^.]*\b({a.name}|the caches)\b", text, re.DOTALL), a.name


@pytest.mark.parametrize("name", CALLS)
def test_arguments_have_the_order_of_the_schema(name):
    names = [a.name for a in op(name).default._schema.arguments]
    assert [n for n in names if n != "workspace"] == list(CALLS[name]())


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_results_are_named_as_the_out_form_names_them(name):
    returns = op(name).default._schema.returns
    assert len(returns) == len(OUTPUTS[name]())
    if len(returns) > 1:
        assert [r.name for r in returns] == list(OUTPUTS[name]())


@pytest.mark.parametrize("name", CALLS)
def test_only_outputs_are_written(name):
    arguments = CALLS[name]()
    schema = op(name).default._schema.arguments
    written = {a.name for a in schema if a.alias_info is not None and a.alias_info.is_write}
    before = {n: v.clone() for n, v in arguments.items() if isinstance(v, torch.Tensor)}
    op(name)(**arguments)
    for argument, value in before.items():
        if argument not in written:
            assert_same_bits(arguments[argument], value)


@pytest.mark.parametrize("layout", MATRIX_LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONAL)
def test_the_out_form_equals_the_functional_form(name, layout):
    outputs = {n: layout(t) if t.dim() > 1 else contiguous(t) for n, t in OUTPUTS[name]().items()}
    assert op(f"{name}_out")(**INPUTS[name](), **outputs) is None
    for written, expected in zip(
        outputs.values(), results(name, **FUNCTIONAL[name]()), strict=True
    ):
        assert_same_bits(written, expected)


@given(case=attention_cases(), layout=st.sampled_from(HEAD_LAYOUTS), data=st.data())
def test_attention_writes_any_layout_with_or_without_a_workspace(case, layout, data):
    expected = ops.branch_attention(*case.arguments())
    out, lse = layout(torch.full_like(case.q, 7)), torch.full(case.q.shape[:2], 7.0)
    workspace = torch.full((2**22,), torch.nan) if data.draw(st.booleans()) else None
    ops.branch_attention_out(*case.arguments(), out, lse, workspace)
    for written, wanted in zip((out, lse), expected, strict=True):
        assert_same_bits(written[: case.n_rows], wanted[: case.n_rows])


SIZES = {
    "sampling_probs": (2, 50),
    "sample": (2, 50),
    "draft_topk": (2, 50),
    "verify_tree": (2, 6, 9),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_workspace_changes_no_result(name):
    size = getattr(_C, f"{name}_workspace_size")(*SIZES[name])
    outputs = OUTPUTS[name]()
    op(f"{name}_out")(**FUNCTIONAL[name](), **outputs, workspace=torch.zeros(size))
    for written, expected in zip(
        outputs.values(), results(name, **FUNCTIONAL[name]()), strict=True
    ):
        assert_same_bits(written, expected)


@pytest.mark.parametrize("name", SIZES)
def test_a_workspace_suffices_for_smaller_calls(name):
    size_of = getattr(_C, f"{name}_workspace_size")
    largest = size_of(*SIZES[name])
    for i in range(len(SIZES[name])):
        smaller = [n // 2 if i == j else n for j, n in enumerate(SIZES[name])]
        assert size_of(*smaller) <= largest


@pytest.mark.parametrize("module", [torch.ops.specbranch, _C], ids=["torch.ops", "_C"])
@pytest.mark.parametrize("name", ["branch_attention", "draft_topk", "verify_tree"])
def test_ops_work_under_torch_compile(name, module):
    arguments = FUNCTIONAL[name]()
    compiled = torch.compile(getattr(module, name), fullgraph=True, backend="aot_eager")
    for actual, expected in zip(compiled(**arguments), op(name)(**arguments), strict=True):
        assert_same_bits(actual, expected)


@pytest.mark.parametrize("name", CALLS)
def test_results_do_not_depend_on_the_number_of_threads(name):
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            arguments = CALLS[name]()
            returned = op(name)(**arguments)
            flat = torch.utils._pytree.tree_leaves((arguments, returned))
            found.append([t for t in flat if isinstance(t, torch.Tensor)])
    finally:
        torch.set_num_threads(threads)
    for others in found[1:]:
        for first, other in zip(found[0], others, strict=True):
            assert_same_bits(other, first)


EMPTY = {
    "sampling_probs": {
        "logits": (0, 9),
        **dict.fromkeys(("temperature", "top_k", "top_p", "min_p"), (0,)),
    },
}


@pytest.mark.parametrize("name", EMPTY)
def test_no_rows_are_no_error(name):
    arguments = FUNCTIONAL[name]()
    empty = {n: arguments[n].new_empty(size) for n, size in EMPTY[name].items()}
    assert all(r.shape[0] == 0 for r in results(name, **empty))


def without_requests(arguments: Arguments) -> Arguments:
    of_requests = ("parents", "n_nodes", "block_table", "context_lens", "start")
    none = {name: arguments[name][:0] for name in of_requests if name in arguments}
    return {**arguments, **none, "row_indptr": int32([0])}


@pytest.mark.parametrize("name", ["tree_mask", "branch_attention", "append_kv_", "rope_append_kv_"])
def test_no_requests_are_no_error(name):
    """All rows are padding."""
    arguments = without_requests(CALLS[name]())
    caches = [arguments[n].clone() for n in ("k_cache", "v_cache") if n in arguments]
    op(name)(**arguments)
    for cache, before in zip(("k_cache", "v_cache"), caches, strict=False):
        assert_same_bits(arguments[cache], before)
