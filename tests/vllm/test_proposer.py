"""The proposer inside vLLM: its target's texts, token by token, in fewer forwards."""

from __future__ import annotations

from collections import Counter

import pytest
from scipy.stats import chi2
from vllm.v1.sample import rejection_sampler

from bench.vllm_counts import Served

BLOCK = 128  # tokens of vLLM's on a CPU
SHORT = [[5 + i, 9, 3 + i] for i in range(5)]
REPEATING = [[7, 3, 9, 30, 12, 40, 21] * 6]
LONG = [[1 + (i * token) % 60 for token in range(BLOCK - 20)] for i in (3, 7)]
PROMPTS = [*SHORT, *REPEATING, *LONG]  # 8; the last grow across a block's end
CACHED = [[1 + token % 61 for token in range(2 * BLOCK + 9)]]
TOKENS = 48
MANY = [SHORT[0]] * 600
SAMPLED = {"temperature": 1.0, "max_tokens": 8, "seed": range(len(MANY))}
OPTIONS = {
    "branches": {"draft": "DRAFT", "steps": 4},
    "branches in a thread": {"draft": "DRAFT"},
    "n-grams": {"steps": 4},
    "both in a thread": {"draft": "DRAFT", "source": "model+ngram", "rows": 8, "least": 0.02},
    "the target in 4 bits": {"draft": "self:int4", "steps": 6},
}


@pytest.fixture(scope="module")
def plain(folders) -> dict[str, list[list[int]]]:
    """What vLLM writes without drafts."""
    with Served(folders[0], None) as served:
        return {
            "greedy": served.write(PROMPTS),
            "cached": served.write(CACHED),
            "long": served.write(PROMPTS, max_tokens=2 * TOKENS),
            "seventh": [text[6] for text in served.write(MANY, **SAMPLED)],
            "stopped": served.write(PROMPTS, stop_token_ids=[9, 29]),
        }


@pytest.mark.parametrize("options", OPTIONS)
def test_a_batch_is_written_as_by_vllm_alone(folders, plain, options):
    given = {**OPTIONS[options]}
    if given.get("draft") == "DRAFT":
        given["draft"] = str(folders[1])
    with Served(folders[0], given) as served:
        assert served.write(PROMPTS) == plain["greedy"]
        assert served.metric("spec_decode_num_accepted_tokens") > 0
        report = served.report()
    assert 0 < report["hits"] <= report["walks"]
    assert report["steps"] > 0


def test_prompts_from_vllms_cache_and_ends(folders, plain):
    with Served(folders[0], {"draft": str(folders[1]), "steps": 4}) as served:
        for _ in range(2):
            assert served.write(CACHED) == plain["cached"]
        assert served.metric("prefix_cache_hits") >= 2 * BLOCK
        assert served.write(PROMPTS, stop_token_ids=[9, 29]) == plain["stopped"]


@pytest.fixture
def right_expansion(monkeypatch):
    """vLLM 0.32 on a CPU loses the temperatures and filters of rows that it verifies: its kernel
    writes them into a copy. So whoever drafts, sampled texts follow another law there."""

    def expanded(x, cu_num_tokens, num_tokens, replace_from=0, replace_to=0):
        counts = cu_num_tokens.diff(prepend=cu_num_tokens.new_zeros(1))
        return x.masked_fill(x == replace_from, replace_to).repeat_interleave(counts)

    monkeypatch.setattr(rejection_sampler, "expand_batch_to_tokens", expanded)


def test_what_is_sampled_has_the_targets_law(folders, plain, right_expansion):
    with Served(folders[0], {"draft": str(folders[1]), "steps": 4}) as served:
        accepted = served.metric("spec_decode_num_accepted_tokens")
        seventh = [text[6] for text in served.write(MANY, **SAMPLED)]
        assert served.metric("spec_decode_num_accepted_tokens") - accepted > 100
    assert_same_law(Counter(seventh), Counter(plain["seventh"]))


def test_requests_that_vllm_preempts(folders, plain):
    options = {"draft": str(folders[1]), "steps": 4}
    with Served(folders[0], options, num_gpu_blocks_override=9) as served:
        assert served.write(PROMPTS, max_tokens=2 * TOKENS) == plain["long"]
        assert served.metric("num_preemptions") > 0
        assert served.metric("spec_decode_num_accepted_tokens") > 0


def test_a_bad_option_ends_the_start(folders):
    with pytest.raises(RuntimeError, match="specbranch: rows: expected an integer >= 1, got 0"):
        Served(folders[0], {"rows": 0})


def assert_same_law(ours: Counter[int], theirs: Counter[int]) -> None:
    """By chi-square; tokens that hardly came count as one."""
    total = ours + theirs
    common = [token for token, count in total.items() if count >= 20]
    rows = [(ours[token], theirs[token]) for token in common]
    rows.append((ours.total() - sum(a for a, _ in rows), theirs.total() - sum(b for _, b in rows)))
    statistic = sum((a - b) ** 2 / (a + b) for a, b in rows if a + b)
    assert len(common) > 3
    assert chi2.sf(statistic, len(rows) - 1) > 0.001
