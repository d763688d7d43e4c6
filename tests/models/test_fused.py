"""The forward of fused ops is transformers' own, on CPU tensors, for every family that has it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from specbranch.models.block_forward import BlockForward
from specbranch.models.cuda_graphs import CapturedForward
from specbranch.models.fused import FusedForward, fused, joined
from tests.replaying_capture import Notes, ReplayingCapture

from . import tiny
from .packed import CASES, plain
from .single import Single
from .test_one_call import CHANGES, SIZES, TEXT, assert_close, with_another_norm

NODES = [*range(-1, 9), 4, 10]


def fusing(forward: BlockForward, buffers) -> FusedForward:
    found = fused(forward, 128)
    assert found is not None
    return found


def fused_runner(model, prepare=fusing, **options) -> Single:
    return Single.of(model, prepare=prepare, **SIZES, **options)


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_transformers(case):
    """Of a chain after a prompt, a branch beside it, and what follows a commit."""
    model = plain(case)
    wanted = tiny.logits(tiny.eager(model), TEXT)
    branch = tiny.logits(tiny.eager(model), [*TEXT[:30], 7, 8])
    runner = fused_runner(model)
    runner.prefill(TEXT[:25])
    got = runner.forward([*TEXT[25:35], 7, 8], NODES)
    assert_close(got[:10], wanted[25:35])
    assert_close(got[10:], branch[30:])
    runner.keep(list(range(10)), 10)
    assert_close(runner.forward(TEXT[35:], [*range(-1, 4)]), wanted[35:])
    assert_close(tiny.logits(tiny.eager(model), TEXT), wanted)  # whose weights moved


@pytest.mark.parametrize("case", CASES)
def test_tokens_are_those_of_transformers(case):
    model = plain(case)
    eager, text = tiny.eager(model), TEXT[:12]
    runner = fused_runner(model)
    runner.prefill(text[:-1])
    for _ in range(24):
        token = tiny.logits(eager, text)[-1].argmax().item()
        assert runner.forward([text[-1]], [len(runner.block) - 1])[0].argmax().item() == token
        text.append(token)


@pytest.mark.parametrize("case", ["Llama", "Qwen3", "Gemma3"])
def test_bf16_is_as_near_as_transformers_own(case):
    wanted = tiny.logits(tiny.eager(plain(case)), TEXT)
    theirs = tiny.logits(tiny.eager(plain(case, torch.bfloat16)), TEXT)
    got = fused_runner(plain(case, torch.bfloat16)).forward(TEXT, [*range(-1, 39)])
    assert got.dtype == torch.bfloat16
    error = (got.float() - wanted).square().mean().sqrt()
    assert error < 1.3 * (theirs.float() - wanted).square().mean().sqrt()


@pytest.mark.parametrize("case", ["Llama", "Gemma2"])
@pytest.mark.parametrize("layers", [1, 3])
def test_features_come_out_without_hooks(case, layers):
    model = plain(case)
    wanted = Single.of(model, prepare=lambda forward, *_: forward, feature_layers=layers, **SIZES)
    got = fused_runner(model, feature_layers=layers)
    for runner in (wanted, got):
        runner.prefill(TEXT[:10])
        runner.forward(TEXT[10:], [*range(-1, 29)], logits_rows=1)
    assert_close(got.runner.features, wanted.runner.features)


@pytest.mark.parametrize("case", ["Llama", "Qwen2", "Qwen3", "Gemma2", "Gemma3", "Phi3"])
def test_a_captured_forward_is_the_eager_one(case):
    """With padding rows, which write nothing, and keys and values that are NaN where unused."""
    model, capture = plain(case), ReplayingCapture()
    captured = fused_runner(
        model, lambda *inputs: CapturedForward(fusing(*inputs), inputs[1], capture)
    )
    eager = Single.of(model, prepare=lambda forward, *_: forward, **SIZES)
    for cache in (*captured.runner.pool.k, *captured.runner.pool.v):
        cache.fill_(torch.nan)
    for runner in (captured, eager):
        runner.prefill(TEXT[:25])
    for tree in ([-1, 0, 0, 1, 2], [-1], [-1, 0, 0]):
        got, wanted = (runner.forward(TEXT[: len(tree)], tree) for runner in (captured, eager))
        assert_close(got, wanted)
        for runner in (captured, eager):
            runner.keep([0], 1)
    assert capture.replays == 3


@pytest.mark.parametrize(
    ("case", "others"), [("Llama", 0), ("Qwen2", 0), ("Qwen3", 0), ("Gemma3", 2), ("Phi3", 0)]
)
def test_a_layer_is_nine_launches(case, others):
    """Beside views and memory; others: norms of what a layer's parts give."""

    def launches(layers: int) -> int:
        runner = fused_runner(tiny.model(CASES[case][0], num_hidden_layers=layers))
        runner.forward([1], [-1])
        with Notes() as notes:
            runner.forward([2, 3], [0, 0])
        functions = [func for func, *_ in notes.operations]
        return sum(not (func.is_view or "empty" in str(func)) for func in functions)

    assert launches(3) - launches(2) == 9 + others


def test_weights_are_joined_without_a_copy_that_stays():
    model = plain("Llama")
    attention, mlp = model.model.layers[0].self_attn, model.model.layers[0].mlp
    before = attention.k_proj.weight.clone()
    runner = fused_runner(model, max_requests=2)
    runner.forward([1], [-1])
    for parts in (
        [attention.q_proj, attention.k_proj, attention.v_proj],
        [mlp.gate_proj, mlp.up_proj],
    ):
        storages = {part.weight.untyped_storage().data_ptr() for part in parts}
        sizes = sum(part.weight.nbytes for part in parts)
        assert len(storages) == 1
        assert parts[0].weight.untyped_storage().nbytes() == sizes
    assert torch.equal(attention.k_proj.weight, before)
    assert not attention.k_proj.weight.is_inference()
    place = attention.q_proj.weight.data_ptr()
    other = fused_runner(model)
    other.forward([1], [-1])
    assert attention.q_proj.weight.data_ptr() == place
    runner.runner.open()
    assert runner.runner._forward is not None, "prepared anew for weights that it moved itself"


def test_parts_that_lie_elsewhere_are_brought_together():
    whole = torch.randn(6, 4)
    first, last = nn.Parameter(whole[:2]), nn.Parameter(whole[4:])
    together = joined([first, last])
    assert torch.equal(together, whole[[0, 1, 4, 5]])
    together[2] = 7
    assert (last[0] == 7).all()
    assert joined([first, last]).data_ptr() == together.data_ptr()


@pytest.mark.parametrize(
    "change", [c for c, fits in CHANGES.items() if not fits], ids=lambda c: c.__name__
)
def test_a_model_with_something_put_on_it_runs_as_it_is(change):
    model = plain("Llama")
    change(model)
    forward = Single.of(model, prepare=lambda forward, *_: forward, **SIZES).runner._block_forward
    assert fused(forward, 128) is None


def test_weights_of_another_dtype_run_as_they_are():
    model = plain("Llama", torch.bfloat16)
    model.model.norm.float()
    assert fused(BlockForward(model, Single.of(model, **SIZES).runner.pool), 128) is None


def test_a_norm_put_in_its_place_counts_from_the_next_request_on():
    model = plain("Llama")
    runner = fused_runner(model, max_requests=2)
    before = runner.forward([5], [-1])
    with_another_norm(model)
    assert_close(Single(runner.runner).forward([5], [-1]), 2 * before)
