from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from specbranch import ops, reference
from tests.ops.cases import (
    generators,
    int32,
    mask_of,
    ragged_batches,
    random_parents,
    row_indptr_of,
)
from tests.ops.layouts import MATRIX_LAYOUTS


@given(
    generator=generators(),
    size=st.sampled_from([1, 2, 7, 31, 32, 33, 64, 100]),
    data=st.data(),
    padding=st.integers(0, 3),
    layout=st.sampled_from(MATRIX_LAYOUTS),
)
def test_equals_reference(generator, size, data, padding, layout):
    batch = data.draw(ragged_batches(size))
    n_nodes = int32([nodes for _, nodes, _ in batch])
    row_indptr = row_indptr_of([rows for _, _, rows in batch])
    parents = torch.stack([random_parents(int(n), size, generator) for n in n_nodes])
    n_rows = int(row_indptr[-1])
    arguments = n_nodes, row_indptr, n_rows + padding
    mask, depth = ops.tree_mask(layout(parents), *arguments)
    expected_mask, expected_depth = reference.tree_mask(parents, *arguments)
    assert torch.equal(mask[:n_rows], expected_mask[:n_rows])
    assert torch.equal(depth[:n_rows], expected_depth[:n_rows])

    written = layout(torch.full_like(mask, 7)), torch.full_like(depth, 7)
    ops.tree_mask_out(parents, n_nodes, row_indptr, *written)
    assert torch.equal(written[0][:n_rows], expected_mask[:n_rows])
    for padded in written:
        assert (padded[n_rows:] == 7).all()


def test_a_small_tree_by_hand():
    # 0 -> 1 -> 3 and 0 -> 2; node 4 is padding.
    parents, n_nodes = int32([[-1, 0, 0, 1, -1]]), int32([4])
    mask, depth = ops.tree_mask(parents, n_nodes, int32([0, 4]), 4)
    assert mask.flatten().tolist() == [0b0001, 0b0011, 0b0101, 0b1011]
    assert depth.tolist() == [0, 1, 1, 2]
    mask, depth = ops.tree_mask(parents, n_nodes, int32([0, 2]), 2)
    assert mask.flatten().tolist() == [0b0101, 0b1011]
    assert depth.tolist() == [1, 2]


def test_a_chain_fills_every_word():
    chain = torch.arange(-1, 69, dtype=torch.int32)
    mask, depth = ops.tree_mask(chain[None], int32([70]), int32([0, 70]), 70)
    assert torch.equal(mask, mask_of(chain, 70))
    assert mask[69].tolist() == [-1, -1, 0b111111]
    assert depth.tolist() == list(range(70))
