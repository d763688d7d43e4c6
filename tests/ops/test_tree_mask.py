from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from specbranch import ops, reference
from tests.ops.cases import generators, int32, random_parents
from tests.ops.layouts import MATRIX_LAYOUTS


@given(
    generator=generators(),
    size=st.sampled_from([1, 2, 7, 31, 32, 33, 64, 100]),
    fill=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    layout=st.sampled_from(MATRIX_LAYOUTS),
)
def test_equals_reference(generator, size, fill, layout):
    n_nodes = int32([round(f * size) for f in fill])
    parents = torch.stack([random_parents(int(n), size, generator) for n in n_nodes])
    mask, depth = ops.tree_mask(layout(parents), n_nodes)
    expected_mask, expected_depth = reference.tree_mask(parents, n_nodes)
    torch.testing.assert_close(mask, expected_mask, rtol=0, atol=0)
    torch.testing.assert_close(depth, expected_depth, rtol=0, atol=0)


def test_a_small_tree_by_hand():
    # 0 -> 1 -> 3 and 0 -> 2; node 4 is padding.
    mask, depth = ops.tree_mask(int32([[-1, 0, 0, 1, -1]]), int32([4]))
    assert mask[0, :, 0].tolist() == [0b0001, 0b0011, 0b0101, 0b1011, 0]
    assert depth[0].tolist() == [0, 1, 1, 2, 0]


def test_a_chain_fills_every_word():
    mask, depth = ops.tree_mask(torch.arange(-1, 69, dtype=torch.int32)[None], int32([70]))
    assert mask.shape == (1, 70, 3)
    assert mask[0, 69].tolist() == [-1, -1, 0b111111]
    assert depth[0].tolist() == list(range(70))
