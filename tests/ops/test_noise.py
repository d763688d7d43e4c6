"""Philox4x32-10 against the known answers of its authors, and the host functions against it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbranch import _C, reference

# From kat_vectors of Random123 (Salmon et al., SC 2011): counter, key, words.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        0xFFFFFFFFFFFFFFFF,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

seeds = st.integers(-(2**63), 2**63 - 1)
words = st.integers(0, 2**32 - 1)


def signed(seed: int) -> int:
    return seed - 2**64 if seed >= 2**63 else seed


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers(counter, key, expected):
    assert tuple(int(w) for w in reference.philox(key, *counter)) == expected
    assert tuple(_C.philox(signed(key), *counter)) == expected


@given(seed=seeds, counter=st.tuples(words, words, words, words))
def test_host_philox_equals_reference(seed, counter):
    assert tuple(_C.philox(seed, *counter)) == tuple(
        int(w) for w in reference.philox(seed, *counter)
    )


@given(seed=seeds, n=words)
def test_host_mix_equals_reference(seed, n):
    assert _C.mix(seed, n) == reference.mix(seed, n)
    assert -(2**63) <= _C.mix(seed, n) < 2**63


def test_mixed_seeds_differ():
    derived = {reference.mix(seed, n) for seed in range(100) for n in range(100)}
    assert len(derived) == 10_000
