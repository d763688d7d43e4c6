"""Faults planted in PTX are found: in attention, in sampling, in verification."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch

from tests.ops.tree_cases import TreeCase, two_failures_along_a_path
from tests.simt import build
from tests.simt.attention import Launch, make_case
from tests.simt.device import SCHEDULES, Schedule, device
from tests.simt.ptx_faults import (
    ATTENTION,
    LOGITS,
    SHUFFLES,
    TICKETS,
    Fault,
    Subject,
    barriers,
)
from tests.simt.sampling import SimulatedOps
from tests.simt.test_sampling import plain_case
from tests.simt.test_sampling_traffic import chain

pytestmark = pytest.mark.skipif(not build.PTX_ARCH, reason="SIMT_PTX names no architecture")

Results = tuple[torch.Tensor, ...]


def attend(schedule: Schedule, value: float = 0.0, **shape: object) -> Results:
    case = make_case(torch.float16, **shape)
    if value:
        case.v_cache[case.block_table[0, 0], 1, :, ::2] = value
    return Launch(case, num_multiprocessors=132).run(schedule)


def attention() -> Subject:
    few = {"contexts": (5, 200), "nodes": (3, 4), "rows": (3, 4), "heads": (4, 2)}
    long = {"contexts": (1300,), "nodes": (3,), "rows": (3,), "heads": (2, 1)}
    tiny = {"contexts": (3, 70), "nodes": (4, 4), "rows": (4, 4), "heads": (2, 1)}
    short = {"contexts": (300,), "nodes": (3,), "rows": (3,), "heads": (2, 1)}
    unseeing = {"contexts": (0, 70), "nodes": (0, 4), "rows": (2, 4), "heads": (2, 1)}
    return Subject(
        device("branch_attention"),
        "branch_attention_kernelI6__halfNS_9MmaTilingILi64ELi1E",
        [
            functools.partial(attend, SCHEDULES[0], **few),
            functools.partial(attend, SCHEDULES[2], **long),
            functools.partial(attend, SCHEDULES[1], window=9, **few),
            functools.partial(attend, SCHEDULES[3], math.inf, **tiny),
            functools.partial(attend, SCHEDULES[0], **unseeing),
            functools.partial(attend, SCHEDULES[3], **short, head_dim=40),
        ],
    )


def rows_of_logits(vocab: int, **params: float) -> tuple:
    generator = torch.Generator().manual_seed(0)
    case = plain_case(2 * torch.randn(2, vocab, generator=generator), **params)
    return case.logits, *case.draws()


def sampling() -> Subject:
    def sample(schedule: Schedule, vocab: int, **params: float) -> Results:
        return (SimulatedOps(schedule).sample(*rows_of_logits(vocab, **params)),)

    launches = [
        functools.partial(sample, SCHEDULES[3], 1500, top_p=0.9),
        functools.partial(sample, SCHEDULES[0], 1500, top_k=40),
        functools.partial(sample, SCHEDULES[2], 8300, temperature=0.0),
    ]
    return Subject(device("sampling"), "sample_kernelIfE", launches)


def verification() -> Subject:
    def verify(schedule: Schedule, case: TreeCase) -> Results:
        return SimulatedOps(schedule).verify_tree(*case.arguments())

    cases = [two_failures_along_a_path(), *(chain(2000, seed) for seed in range(2))]
    for case in cases:
        case.target_logits = case.target_logits.float()
    cases[2].top_p.fill_(0.9)
    launches = [functools.partial(verify, SCHEDULES[n], case) for n, case in enumerate(cases)]
    return Subject(device("sampling"), "verify_rejection_kernelIfE", launches)


def assert_found(subject: Subject, faults: list[Fault]) -> None:
    assert [f.name for f in faults if not subject.finds(f)] == []


@pytest.mark.parametrize(
    ("make", "faults"),
    [
        (attention, [*ATTENTION, *TICKETS, *SHUFFLES]),
        (sampling, [*TICKETS, SHUFFLES[1]]),
        (verification, [*LOGITS, *TICKETS, *SHUFFLES]),
    ],
)
def test_a_fault_is_found(make: Callable[[], Subject], faults: list[Fault]):
    assert_found(make(), faults)


def test_every_barrier_of_attention_is_needed():
    subject = attention()
    assert_found(subject, barriers(subject.code()[1]))
