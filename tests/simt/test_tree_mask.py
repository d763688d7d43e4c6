from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from specbranch import reference
from tests.ops.cases import generators, int32, ragged_batches, random_parents, row_indptr_of
from tests.ops.layouts import MATRIX_LAYOUTS
from tests.simt.device import SCHEDULES, device
from tests.simt.params import TreeMaskParams


@given(
    schedule=st.sampled_from(SCHEDULES),
    generator=generators(),
    size=st.sampled_from([1, 2, 31, 32, 33, 130]),
    data=st.data(),
    padding=st.integers(0, 2),
    layout=st.sampled_from(MATRIX_LAYOUTS),
)
def test_equals_reference(schedule, generator, size, data, padding, layout):
    batch = data.draw(ragged_batches(size))
    n_nodes = int32([nodes for _, nodes, _ in batch])
    row_indptr = row_indptr_of([rows for _, _, rows in batch])
    parents = torch.stack([random_parents(int(n), size, generator) for n in n_nodes])
    n_rows = int(row_indptr[-1])
    expected = reference.tree_mask(parents, n_nodes, row_indptr, n_rows + padding)
    for padded in expected:
        padded[n_rows:] = 7  # as it was before the launch
    simulated = device("tree_mask")
    simulated.reset()
    simulated.set_schedule(schedule)

    mask, depth = (
        simulated.place(torch.full_like(e, 7), name, writable=True)
        for e, name in zip(expected, ("ancestor_mask", "depth"), strict=True)
    )
    arguments = (
        simulated.place(layout(parents), "parents"),
        simulated.place(n_nodes, "n_nodes"),
        simulated.place(row_indptr, "row_indptr"),
    )
    simulated.launch("tree_mask", TreeMaskParams.of(*arguments, mask, depth))
    assert torch.equal(mask, expected[0])
    assert torch.equal(depth, expected[1])
