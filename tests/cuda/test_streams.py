"""Ops on two streams at once, on a second GPU, and with arguments that they must refuse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from specbranch import ops
from tests.cuda.on_device import GPU, Mover
from tests.ops import test_bad_arguments as bad
from tests.ops.calls import CALLS, CPU_ONLY, FUNCTIONAL, ON_CUDA

REPEATS = 50


def tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@pytest.mark.parametrize("name", [name for name in FUNCTIONAL if name in ON_CUDA])
def test_two_streams_at_once_do_not_disturb_each_other(name):
    """Whatever scratch an op has, the other stream's call has another."""
    op, arguments = getattr(ops, name), Mover().move(FUNCTIONAL[name]())
    others = tree_map_only(
        Tensor, lambda t: t.flip(0) if t.is_floating_point() else t.clone(), arguments
    )
    expected = op(**arguments), op(**others)
    streams = torch.cuda.Stream(), torch.cuda.Stream(priority=-1)
    results: tuple[list, list] = ([], [])
    for stream in streams:
        stream.wait_stream(torch.cuda.current_stream())
    for _ in range(REPEATS):
        for stream, given, found in zip(streams, (arguments, others), results, strict=True):
            with torch.cuda.stream(stream):
                found.append(op(**given))
    for stream in streams:
        stream.synchronize()
    for found, wanted in zip(results, expected, strict=True):
        for result in found:
            for ours, once in zip(tensors(result), tensors(wanted), strict=True):
                assert torch.equal(ours, once)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("name", ON_CUDA)
def test_an_op_runs_where_its_tensors_are(name):
    second, first = torch.device("cuda:1"), torch.device("cuda:0")
    op = getattr(ops, name)
    with torch.cuda.device(first):
        there = Mover(second).move(CALLS[name]())
        here = Mover(first).move(CALLS[name]())
        found, wanted = op(**there), op(**here)
        assert torch.cuda.current_device() == 0
    for ours, first_gpus in zip(tensors((there, found)), tensors((here, wanted)), strict=True):
        assert ours.device == second
        assert torch.equal(ours.cpu(), first_gpus.cpu())


REFUSED = {
    name.removeprefix("test_"): value
    for name, value in vars(bad).items()
    if name
    in {
        "test_dtype",
        "test_rank",
        "test_leading_size",
        "test_stride_of_the_last_dimension",
        "test_outputs_may_not_overlap_themselves",
        "test_draws_without_their_law",
    }
}
"""What does not look at values, which only the CPU's ops check."""
globals().update({f"test_bad_{name}": test for name, test in REFUSED.items()})


@pytest.fixture(autouse=True)
def arguments_on_the_gpu(monkeypatch, request):
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if "argument" in parameters and parameters["name"] in CPU_ONLY:
        pytest.skip("no op of a GPU")
    moved = {name: lambda call=call: Mover().move(call()) for name, call in CALLS.items()}
    monkeypatch.setattr(bad, "CALLS", moved)


@pytest.mark.parametrize("name", CPU_ONLY)
def test_few_bits_are_refused(name):
    with pytest.raises(ValueError, match=r"expected a tensor on cpu, .*, got cuda"):
        getattr(ops, name)(**Mover().move(CALLS[name]()))


@pytest.mark.parametrize(("name", "argument"), bad.TENSORS)
def test_a_tensor_left_on_the_cpu_is_refused_by_name(name, argument):
    arguments = Mover().move(CALLS[name]())
    first = next(n for n, value in arguments.items() if isinstance(value, Tensor))
    if argument == first:
        return  # the first tensor says where an op runs
    arguments[argument] = arguments[argument].cpu()
    message = rf"^{name.removesuffix('_out')}: {argument}: expected .*cuda.*, got .*cpu"
    with pytest.raises(ValueError, match=message):
        getattr(ops, name)(**arguments)
    torch.ones(1, device=GPU).item()  # the process and its context are well
