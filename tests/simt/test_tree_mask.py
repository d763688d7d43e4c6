from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from specbranch import reference
from tests.ops.cases import generators, int32, random_parents
from tests.ops.layouts import MATRIX_LAYOUTS
from tests.simt.device import SCHEDULES, device
from tests.simt.params import TreeMaskParams


@given(
    schedule=st.sampled_from(SCHEDULES),
    generator=generators(),
    size=st.sampled_from([1, 2, 31, 32, 33, 130]),
    fill=st.lists(st.floats(0, 1), min_size=1, max_size=4),
    layout=st.sampled_from(MATRIX_LAYOUTS),
)
def test_equals_reference(schedule, generator, size, fill, layout):
    n_nodes = int32([round(f * size) for f in fill])
    parents = torch.stack([random_parents(int(n), size, generator) for n in n_nodes])
    expected_mask, expected_depth = reference.tree_mask(parents, n_nodes)
    simulated = device("tree_mask")
    simulated.reset()
    simulated.set_schedule(schedule)

    mask = simulated.place(torch.full_like(expected_mask, 7), "ancestor_mask", writable=True)
    depth = simulated.place(torch.full_like(expected_depth, 7), "depth", writable=True)
    arguments = simulated.place(layout(parents), "parents"), simulated.place(n_nodes, "n_nodes")
    simulated.launch("tree_mask", TreeMaskParams.of(*arguments, mask, depth))
    assert torch.equal(mask, expected_mask)
    assert torch.equal(depth, expected_depth)
