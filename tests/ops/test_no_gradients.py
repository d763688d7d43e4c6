"""Gradients do not pass through an op, and are never lost in silence."""

from __future__ import annotations

import pytest
import torch

from specbranch import ops
from tests.ops.calls import CALLS, FUNCTIONAL, Arguments


def requiring_gradients(name: str) -> Arguments:
    arguments = CALLS[name]()
    for value in torch.utils._pytree.tree_leaves(arguments):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            value.requires_grad_()
    return arguments


@pytest.mark.parametrize("name", ["branch_attention", "sampling_probs", "draft_topk"])
def test_backward_through_an_op_is_refused(name):
    results = getattr(ops, name)(**requiring_gradients(name))
    for result in results if isinstance(results, tuple) else (results,):
        if result.is_floating_point():
            loss = result.sum() + torch.zeros((), requires_grad=True)
            with pytest.raises(RuntimeError, match=f"specbranch::{name} has no backward"):
                loss.backward(retain_graph=True)


@pytest.mark.parametrize("name", sorted(CALLS.keys() - FUNCTIONAL.keys() - {"tree_mask_out"}))
def test_an_op_that_writes_refuses_tensors_that_require_gradients(name):
    with pytest.raises(RuntimeError, match=f"specbranch::{name}: .* requires a gradient"):
        getattr(ops, name)(**requiring_gradients(name))


@pytest.mark.parametrize("name", CALLS)
def test_without_gradients_they_are_no_hindrance(name):
    with torch.no_grad():
        getattr(ops, name)(**requiring_gradients(name))
