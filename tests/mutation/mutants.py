"""Small wrong changes of the rules by which tokens are drawn and accepted."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    path: str
    right: str
    wrong: str
    tests: str
    """Names of files in tests/ops."""


WALK = "verify_tree law_rejection_exact law_gumbel"
DRAWS = "draft_topk law_rejection_draws"
LAWS = "sampling_probs sample"


def _reference(path: str, right: str, wrong: str, tests: str) -> Mutant:
    return Mutant(f"specbranch/reference/{path}.py", right, wrong, tests)


REFERENCE = [
    _reference("verify", "if u * Q[child.token] <", "if u * Q[child.token] <=", WALK),
    _reference("verify", "if u * Q[child.token] <", "if u <", WALK),
    _reference("verify", "(P - Q).clamp(min=0)", "P", WALK),
    _reference("verify", "Q = Q.index_fill(0, torch.tensor(child.token), 0)", "Q = Q * 1", WALK),
    _reference("verify", "Q = Q / Q.sum()", "pass", WALK),
    _reference("verify", "key=lambda c: c.order", "key=lambda c: -c.order", WALK),
    _reference("verify", "if c.order > 0)", "if c.order >= 0)", WALK),
    _reference("verify", "position, Stream.RESIDUAL", "position, Stream.GUMBEL", WALK),
    _reference("verify", "or params.temperature == 0:", "or False:", WALK),
    _reference("verify", "+ len(accepted) - 1", "+ len(accepted)", WALK),
    _reference("verify", "child.node >= end_of_rows", "child.node > end_of_rows", WALK),
    _reference("verify", "fallback=P)", "fallback=Q)", WALK),
    _reference("sampling", "kept[top_k:]", "kept[top_k + 1 :]", LAWS),
    _reference("sampling", "rest.cumsum(-1) - rest < top_p", "rest.cumsum(-1) < top_p", LAWS),
    _reference("sampling", "p * kept / (p * kept).sum()", "p * kept", LAWS),
    _reference("sampling", "p >= min_p * p[0]", "p > min_p", LAWS),
    _reference("sampling", "descending=True, stable=True", "descending=True", f"{LAWS} draft_topk"),
    _reference("sampling", "SOFT_FILTER_PENALTY = 2.0", "SOFT_FILTER_PENALTY = 1.0", DRAWS),
    _reference("sampling", "best = best[z[best] > -math.inf]", "pass", DRAWS),
    _reference(
        "sampling", "z, estimate = law + noise, law.exp()", "z = estimate = law.exp()", DRAWS
    ),
    _reference("noise", "np.log1p(-u)", "np.log(u)", "noise sample"),
    _reference("noise", "+ 0.5) / 2**32", "+ 0.0) / 2**32", "noise sample"),
    _reference("noise", "Stream.ACCEPT", "Stream.GUMBEL", f"noise {WALK}"),
]

_WALK = "csrc/verify/cpu/verify_tree.cpp"
_RESIDUAL = "csrc/verify/cpu/residual.h"
_DRAFT = "csrc/sampling/cpu/draft_topk.cpp"
_SCORES = "csrc/sampling/cpu/scores.h"
_FILTER = "csrc/sampling/cpu/filter.h"

KERNELS = [
    Mutant(_RESIDUAL, "* q_scale_) < p_", "* q_scale_) <= p_", WALK),
    Mutant(_RESIDUAL, "(q_[token] * q_scale_)", "q_[token]", WALK),
    Mutant(_RESIDUAL, "scratch_.data()[token] = 0.0f;", "", WALK),
    Mutant(_RESIDUAL, "    subtract_draft_law();\n", "", WALK),
    Mutant(_RESIDUAL, "if (!(mass > 0.0)) return;", "", WALK),
    Mutant(_WALK, "draw[a] < draw[b]", "draw[a] > draw[b]", WALK),
    Mutant(_WALK, "return draw[i] == 0;", "return true;", WALK),
    Mutant(
        _WALK, "noise(NoiseStream::kResidual, depth)", "noise(NoiseStream::kGumbel, depth)", WALK
    ),
    Mutant(_WALK, "noise(NoiseStream::kAccept, depth)", "noise(NoiseStream::kGumbel, depth)", WALK),
    Mutant(_WALK, "decision.child >= n_rows()", "decision.child > n_rows()", WALK),
    Mutant(_WALK, " && filter_.temperature > 0.0f", "", WALK),
    Mutant(_WALK, "static_cast<std::uint32_t>(depth), stream}", "0u, stream}", WALK),
    Mutant(
        _DRAFT,
        "weights.data()[token.id] == 0.0f",
        "false",
        DRAWS,
    ),
    Mutant(_DRAFT, "kSoftPenalty * filter.temperature", "kSoftPenalty", DRAWS),
    Mutant(
        _SCORES,
        "a.score == b.score && a.id < b.id",
        "a.score == b.score && a.id > b.id",
        f"{DRAWS} sample",
    ),
    Mutant(
        _SCORES,
        "noise[i] = gumbel_bound(words[i])",
        "noise[i] = gumbel_bound(words[i]) - 0.1f",
        f"{DRAWS} sample",
    ),
    Mutant(_FILTER, "(id <= last_id)", "(id < last_id)", LAWS),
    Mutant(_FILTER, "return reached >= limit;", "return reached > limit;", LAWS),
    Mutant(_FILTER, "if (least < exact)", "if (least > exact)", LAWS),
    Mutant(_FILTER, "find_first(row, law.max))};", "row.size())};", LAWS),
]
