"""Plain decoding: the target alone, one token a forward."""

from __future__ import annotations

from specbranch.policies.base import Policy


class Autoregressive(Policy):
    """Submits the root and nothing else: the baseline that every speedup is measured against."""

    name = "ar"
    drafts = False
