"""`specbranch advise`: the three numbers, the ways tried, and the answer."""

from __future__ import annotations

from specbranch.cli.advice import WAYS, Finding, verdict
from tests.cli.conftest import Invoke


def finding(draft: str = "d", agreement: float = 0.8, **speedups: float) -> Finding:
    return Finding(draft, 6.0, 1.2, agreement, {way: speedups.get(way, 0.9) for way in WAYS})


def test_the_fastest_way_of_all_drafts_is_taken() -> None:
    found = [finding("slow", ar=1.0, specbranch=1.1), finding("fast", ar=1.0, auto=1.4)]
    answer, reason = verdict(found)
    assert answer.startswith("take --draft fast --method auto: 1.40x")
    assert reason.startswith("fast: a target forward takes 6.0 draft steps")


def test_no_draft_is_named_where_ngrams_win() -> None:
    best = finding()
    best.speedups["sps --source ngram"] = 1.3  # type: ignore[index]
    assert verdict([best])[0].startswith("take --method sps --source ngram: 1.30x")


def test_none_is_taken_where_nothing_is_worth_it() -> None:
    answer, *reasons = verdict([finding(ar=1.0, auto=1.04, agreement=0.3), finding("e", ar=1.0)])
    assert answer.startswith("take none")
    assert "right in 30%" in reasons[0]
    assert len(reasons) == 2


def test_a_pair_is_measured(invoke: Invoke) -> None:
    result = invoke("advise", "-p", "hello", "-n", "8")
    assert result.exit_code == 0, result.output
    assert all(word in result.stdout for word in ("agreement", "8 rows", "take ", "draft steps"))
