"""Schedules over synthetic drafts, and the closed form that alignments are inferred with."""

from __future__ import annotations

import pytest

from bench.schedule import Results, alignment_of, figures, pearl_speedup
from specbranch.costs.model import CostModel
from specbranch.policies import PEARL
from specbranch.replay import Replayer, SyntheticLaws, rank_rates, synthetic_recording


@pytest.mark.parametrize("alignment", [0.4, 0.8])
def test_pearls_closed_form_is_its_replay(alignment):
    c = 5
    replayer = Replayer(PEARL(gamma=c), CostModel.rows_free("c=5", c))
    laws = SyntheticLaws(rank_rates(alignment), seed=3)
    stats = replayer.replay(synthetic_recording(6000), laws).stats
    assert figures([stats], c)["speedup"] == pytest.approx(pearl_speedup(alignment, c), rel=0.04)


def test_an_alignment_has_pearls_published_speedup():
    assert pearl_speedup(alignment_of("vicuna-68m-13b", 0), 8.0) == pytest.approx(2.02)


def test_cells_are_computed_once(tmp_path):
    results = Results(tmp_path / "cells.json")
    assert results.cell("a", lambda: {"speedup": 2.0}) == {"speedup": 2.0}
    again = Results(tmp_path / "cells.json")
    assert again.cell("a", pytest.fail) == {"speedup": 2.0}
