"""Schedules over synthetic drafts, and the closed form that alignments are inferred with."""

from __future__ import annotations

import pytest

from bench.methods import Variant
from bench.replays import free, replayed, speedups, synthetic
from bench.schedule import alignment_of, pearl_speedup


@pytest.mark.parametrize("alignment", [0.4, 0.8])
def test_pearls_closed_form_is_its_replay(alignment):
    c = 5
    variant = Variant("pearl", "pearl", (("gamma", c),))
    (speedup,) = speedups(replayed(variant, free(c), synthetic(alignment, 6000)), free(c))
    assert speedup == pytest.approx(pearl_speedup(alignment, c), rel=0.05)


def test_an_alignment_has_pearls_published_speedup():
    assert pearl_speedup(alignment_of("vicuna-68m-13b", 0), 8.0) == pytest.approx(2.02)
