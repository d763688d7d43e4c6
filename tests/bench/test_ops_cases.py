"""What `bench.ops` compares: that every way does the work, and the same work."""

from __future__ import annotations

import pytest
import torch

from bench.floors import Heads
from bench.models import Model
from bench.ops.attention import EXPANDED, PACKED, attention
from bench.ops.case import EAGER, OURS, Case
from bench.ops.kv import append_kv, compact_kv
from bench.ops.laws import COMMON_FILTER, NO_FILTER
from bench.ops.linear import INT4, PACKED_BF16, PACKED_FP32, packed, quantized
from bench.ops.mask import tree_mask
from bench.ops.sampling import draft_topk, sample, sampling_probs
from bench.ops.verify import COUPLINGS, draws_of, main_line_and_siblings, verify_tree
from tests.threads import one_thread

__all__ = ["one_thread"]

CPU = torch.device("cpu")
FP32 = torch.float32
SMALL = Model("small", Heads(4, 2, 64), layers=3, vocab=500, ffn=512)


def calls_on(case: Case, inputs: object) -> dict[str, object]:
    return {c.name: c.make(inputs) for c in case.ways if c.module is None}


def results(case: Case) -> dict[str, object]:
    """Of every way that torch alone provides, on the same inputs."""
    return {name: call() for name, call in calls_on(case, case.inputs(CPU)).items()}


@pytest.mark.parametrize(("batch", "context", "branches"), [(1, 70, 3), (2, 130, 33), (3, 5, 1)])
def test_every_attention_gives_the_same(batch, context, branches):
    found = results(attention(SMALL, FP32, batch, context, branches))
    assert found.keys() == {OURS, EAGER, EXPANDED, PACKED}
    for out in found.values():
        torch.testing.assert_close(out, found[OURS], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("batch", "nodes"), [(1, 1), (2, 40), (3, 64)])
def test_every_tree_mask_is_the_same(batch, nodes):
    found = results(tree_mask(batch, nodes))
    for ours, eager in zip(found[OURS], found[EAGER], strict=True):
        assert torch.equal(ours, eager)


@pytest.mark.parametrize("make", [append_kv, compact_kv])
def test_caches_end_up_the_same(make):
    case = make(SMALL, FP32, 2, 5)
    caches = {}
    for name in (OURS, EAGER):
        torch.manual_seed(0)
        inputs = case.inputs(CPU)
        before = [tensor.clone() for tensor in caches_of(inputs)]
        calls_on(case, inputs)[name]()
        caches[name] = caches_of(inputs)
        assert not any(map(torch.equal, before, caches[name]))
    assert all(map(torch.equal, caches[OURS], caches[EAGER]))


def caches_of(inputs: object) -> list[torch.Tensor]:
    if hasattr(inputs, "k_caches"):
        return [*inputs.k_caches, *inputs.v_caches]
    return [inputs.k_cache, inputs.v_cache]


@pytest.mark.parametrize("kept", [NO_FILTER, COMMON_FILTER])
def test_laws_are_the_same(kept):
    found = results(sampling_probs(SMALL, FP32, 3, kept))
    torch.testing.assert_close(found[OURS], found[EAGER], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kept", [NO_FILTER, COMMON_FILTER])
def test_everyone_samples_tokens_of_the_law(kept):
    case = sample(SMALL, FP32, 3, kept)
    inputs = case.inputs(CPU)
    law = sampling_probs(SMALL, FP32, 3, kept).ways[0].make(inputs)()
    for call in calls_on(case, inputs).values():
        assert (law.gather(1, call()[:, None].long()) > 0).all()


@pytest.mark.parametrize("coupling", COUPLINGS[1:])
def test_drafts_agree_on_the_draftss_confidence(coupling):
    found = results(draft_topk(coupling, SMALL, FP32, 3, 4))
    for ours, eager in zip(found[OURS][2:], found[EAGER][2:], strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-3, atol=1e-5)
    assert found[OURS][0].shape == found[EAGER][0].shape == (3, 4)


def test_a_tree_is_a_main_line_with_siblings():
    assert main_line_and_siblings(9, 3) == [-1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert draws_of(main_line_and_siblings(9, 3), 3) == [1, 1, 1, 2, 2, 3, 3, 4, 4]
    assert main_line_and_siblings(3, 3) == [-1, 0, 1]


@pytest.mark.parametrize("kept", [NO_FILTER, COMMON_FILTER])
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize(("nodes", "visited"), [(1, 1), (6, 3), (6, 6), (20, 4)])
def test_a_walk_visits_the_rows_that_are_counted(coupling, nodes, visited, kept):
    case = verify_tree(coupling, SMALL, FP32, 2, nodes, visited, kept)
    path_len, _ = calls_on(case, case.inputs(CPU))[OURS]()
    assert path_len.tolist() == [visited, visited]


@pytest.mark.parametrize(("nodes", "visited"), [(1, 1), (6, 6), (20, 4)])
def test_the_greedy_chain_walks_the_same_path(nodes, visited):
    found = results(verify_tree("greedy", SMALL, FP32, 3, nodes, visited))
    for ours, eager in zip(found[OURS], found[EAGER], strict=True):
        assert torch.equal(ours, eager.to(torch.int32))


def test_the_rejection_chain_accepts_what_the_target_would_draft():
    found = results(verify_tree("rejection", SMALL, FP32, 3, 9, 5))
    assert found[EAGER][0].tolist() == [5, 5, 5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_op_is_measured_in_16_bits_too(dtype):
    for case in (
        attention(SMALL, dtype, 2, 70, 3),
        append_kv(SMALL, dtype, 2, 3),
        compact_kv(SMALL, dtype, 2, 3),
        sampling_probs(SMALL, dtype, 3),
        sample(SMALL, dtype, 3),
        draft_topk("gumbel", SMALL, dtype, 3, 4),
        *(verify_tree(coupling, SMALL, dtype, 2, 6, 3) for coupling in COUPLINGS),
    ):
        results(case)


@pytest.mark.parametrize("bits", [4, 8])
def test_products_in_few_bits_are_alike(bits):
    found = results(quantized(SMALL, FP32, bits, 5))
    assert found.keys() >= {OURS, EAGER, PACKED_FP32, PACKED_BF16}
    assert (INT4 in found) == (bits == 4)
    for outs in found.values():
        for out, expected in zip(outs, found[EAGER], strict=True):
            error = (out.float() - expected).norm() / expected.norm()
            assert error < (0.15 if bits == 4 else 0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 5])
def test_products_of_packed_weights_are_alike(dtype, rows):
    found = results(packed(SMALL, dtype, rows))
    for outs in found.values():
        for out, expected in zip(outs, found[EAGER], strict=True):
            assert out.shape == expected.shape
            assert (out.float() - expected).norm() < 0.01 * expected.norm()
