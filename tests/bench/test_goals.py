"""Goals: met, not met, or not measured, each at its worst shape."""

from __future__ import annotations

import pytest

from bench.goals import op_goals
from bench.gpu import GRAPH_WARM
from bench.ops.case import EXPANDED


def row(op: str, model: str = "Llama-3.1-8B", **found: object) -> dict[str, object]:
    """A row of `bench.ops` with what is given, and nothing measured otherwise."""
    params = {
        k: found.pop(k) for k in ("batch", "nodes", "moved", "branches", "context") if k in found
    }
    defaults = {"over_eager": None, "of_lower_roof": None, "of_copy_bandwidth": None}
    shape = ", ".join(f"{name} {value}" for name, value in params.items())
    empty = {"speedup": {}, "seconds": {}, "peers": []}
    return {
        "op": op,
        "model": model,
        "shape": shape,
        "params": params,
        **defaults,
        **empty,
        **found,
    }


def warm(**medians: float) -> dict[str, dict[str, dict[str, float]]]:
    return {GRAPH_WARM: {name: {"median": median} for name, median in medians.items()}}


def attended(model: str, branches: int, share: float, speedup: float) -> dict[str, object]:
    return row(
        "branch_attention",
        model,
        batch=1,
        branches=branches,
        context=8192,
        of_lower_roof=share,
        speedup={EXPANDED: speedup},
    )


def verdicts(device: str, rows: list[dict[str, object]]) -> dict[str, tuple[object, object]]:
    return {found.name: (found.met, found.measured) for found in op_goals(device, rows)}


def test_on_a_cpu():
    found = verdicts(
        "cpu",
        [
            attended("a", 1, 0.7, 2.9),
            attended("a", 8, 0.6, 5.0),
            attended("b", 8, 0.65, 4.0),
            attended("a", 4, 0.1, 0.1),
            row("verify_tree, gumbel", "a", batch=1, nodes=8, over_eager=12.0),
            row("verify_tree, gumbel", "b", batch=1, nodes=8, over_eager=2.0),
            row("compact_kv_", batch=1, moved=4, over_eager=5.0),
            row("compact_kv_", batch=8, moved=4, over_eager=0.1),
        ],
    )
    name = "branch_attention, context 8192"
    assert found == {
        f"{name}, 1 branches: share of the lower roof": (True, 0.7),
        f"{name}, 1 branches: speed over SDPA, K/V expanded": (False, 2.9),
        f"{name}, 8 branches: share of the lower roof": (True, 0.6),
        f"{name}, 8 branches: speed over SDPA, K/V expanded": (True, 4.0),
        "verify_tree, gumbel: speed over the eager chain": (False, 2.0),
        "verify_tree, rejection: speed over the eager chain": (None, None),
        "compact_kv_: speed over the eager chain": (True, 5.0),
    }


def test_a_goal_names_its_worst_shape_and_counts_the_others():
    rows = [attended("a", 8, 0.9, 5.0), attended("b", 8, 0.2, 4.0)]
    found = {found.name: found for found in op_goals("cpu", rows)}
    share = found["branch_attention, context 8192, 8 branches: share of the lower roof"]
    assert share.shape == "b, batch 1, branches 8, context 8192"
    assert (share.met_by, share.shapes) == (1, 2)


def test_on_a_gpu():
    throughput = {"batch": 8, "branches": 8, "context": 8192}
    verification = {"batch": 1, "branches": 8, "context": 32768}
    peers = ["a", "b", "never measured"]
    found = verdicts(
        "cuda",
        [
            row(
                "branch_attention",
                **throughput,
                of_copy_bandwidth=0.85,
                seconds=warm(ours=1e-4, a=2e-4, b=1.1e-4),
                peers=peers,
            ),
            row("branch_attention", **verification, seconds=warm(ours=1e-4, a=1.2e-4), peers=peers),
            row("branch_attention", "other", **throughput, of_copy_bandwidth=0.1),
            row("verify_tree, greedy", batch=1, nodes=8, seconds=warm(ours=9e-6)),
            row("compact_kv_", batch=1, moved=4, seconds=warm(ours=7e-6)),
        ],
    )
    assert list(found.values()) == [
        (True, 0.85),
        (True, pytest.approx(1.1)),
        (False, pytest.approx(1.2)),
        (True, pytest.approx(9)),
        (None, None),
        (None, None),
        (False, pytest.approx(7)),
    ]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_nothing_measured_is_nothing_met(device):
    assert {verdict.met for verdict in op_goals(device, [])} == {None}
