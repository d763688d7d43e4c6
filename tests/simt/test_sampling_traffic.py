"""What sampling and verification read, against the logits that they must read once.

Every warp also reads the parameters of its row, up to half of what it reads of the logits here.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from specbranch import ops
from tests.ops.cases import int32
from tests.ops.test_verify_tree import outcome
from tests.ops.tree_cases import greedy_tree
from tests.simt.device import Schedule, Traffic, Transactions
from tests.simt.sampling import SimulatedOps
from tests.simt.test_sampling import plain_case

VOCAB = 16_384
SECTOR = 32


def sectors(values: Tensor) -> int:
    return values.nbytes // SECTOR


def of_one_launch(traffic: Traffic) -> Traffic:
    """The simulated ops launch twice."""
    return Traffic(*(Transactions(*(n // 2 for n in kind)) for kind in traffic))


@pytest.fixture
def count(report_traffic) -> Callable[..., Traffic]:
    """count(name, op, *arguments) runs the op and gives the traffic of a launch of it."""

    def run(name: str, op: str, *arguments: object) -> Traffic:
        simulated = SimulatedOps(Schedule())
        counted: list[Traffic] = []
        with simulated.device.counting(counted):
            getattr(simulated, op)(*arguments)
        traffic = of_one_launch(counted[0])
        report_traffic(name, traffic)
        assert traffic.shared_reads.excess < 1.3
        assert traffic.shared_writes.excess < 1.1
        assert traffic.global_reads.excess < 1.2
        return traffic

    return run


def random_case(**params: float):
    generator = torch.Generator().manual_seed(3)
    return plain_case(torch.randn(2, VOCAB, generator=generator).bfloat16(), **params)


@pytest.mark.parametrize(
    ("params", "passes"),
    [({}, 1.4), ({"temperature": 0.0}, 1.3), ({"top_k": 4}, 1.8), ({"top_p": 0.9}, 8.0)],
    ids=["plain", "greedy", "top_k", "top_p"],
)
def test_sample_reads_the_logits_once_but_for_its_filters(count, params, passes):
    case = random_case(**params)
    name = " ".join(["sample", *params])
    traffic = count(name, "sample", case.logits, *case.draws())
    reads = traffic.global_reads.transactions
    assert sectors(case.logits) <= reads <= passes * sectors(case.logits)


@pytest.mark.parametrize("coupling", ["gumbel", "rejection"])
def test_draft_topk_reads_the_logits_once(count, coupling):
    case = random_case()
    arguments = (case.logits, 4, *case.draws(), coupling)
    traffic = count(f"draft_topk {coupling}", "draft_topk", *arguments)
    reads = traffic.global_reads.transactions
    assert sectors(case.logits) <= reads <= 2.1 * sectors(case.logits)


def test_sampling_probs_reads_twice_and_writes_once(count):
    case = random_case()
    traffic = count("sampling_probs", "sampling_probs", case.logits, *case.filters())
    logits, probs = sectors(case.logits), sectors(case.logits.float())
    assert 2 * logits <= traffic.global_reads.transactions <= 2.4 * logits
    assert traffic.global_writes.excess == 1
    assert probs <= traffic.global_writes.transactions <= 1.1 * probs


def chain(vocab: int, seed: int, **changes: Tensor):
    """Three nodes and a leaf, drawn from laws that are close to the target's."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(4, vocab, generator=generator)
    draft_logits = logits + 0.5 * torch.randn(logits.shape, generator=generator)
    probs = draft_logits.softmax(-1)
    drawn = torch.multinomial(probs, 1, generator=generator).flatten()
    arguments = {
        "candidates": int32([[0, *drawn[:3].tolist()]]),
        "parents": int32([[-1, 0, 1, 2]]),
        "n_nodes": int32([4]),
        "row_indptr": int32([0, 4]),
        "target_logits": logits.bfloat16(),
        "temperature": torch.ones(1),
        "seed": torch.tensor([seed]),
        "draft_probs": probs,
        "draw": torch.tensor([[0, 1, 1, 1]], dtype=torch.uint8),
    }
    return greedy_tree(**{**arguments, **changes})


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_gumbel_walk_reads_the_logits_once(count, temperature):
    case = chain(VOCAB, 0, temperature=torch.tensor([temperature])).gumbel()
    name = f"verify_tree gumbel, temperature {temperature:.0f}"
    traffic = count(name, "verify_tree", *case.arguments())
    logits = sectors(case.target_logits)
    assert logits <= traffic.global_reads.transactions <= 1.5 * logits


@pytest.mark.parametrize("seed", range(3))
def test_a_rejection_reads_a_few_tiles_more(count, seed):
    case = chain(VOCAB, seed)
    traffic = count("verify_tree rejection", "verify_tree", *case.arguments())
    logits = sectors(case.target_logits)
    assert logits <= traffic.global_reads.transactions <= 1.9 * logits
    found = outcome(SimulatedOps(Schedule()).verify_tree(*case.arguments()))
    assert found == outcome(ops.verify_tree(*case.arguments()))
