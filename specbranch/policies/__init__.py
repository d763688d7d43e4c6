"""Drafting policies: small objects that answer where to grow and what to submit."""

from __future__ import annotations

import inspect
from typing import Any

from specbranch.policies.adaedl import AdaEDL
from specbranch.policies.auto import Auto
from specbranch.policies.autoregressive import Autoregressive
from specbranch.policies.base import Outcome, Policy
from specbranch.policies.best_first import BestFirst
from specbranch.policies.pearl import PEARL
from specbranch.policies.specbranch import SpecBranch
from specbranch.policies.sps import SpeculativeSampling
from specbranch.policies.ssd import SSD

POLICIES: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (
        Autoregressive,
        SpeculativeSampling,
        AdaEDL,
        PEARL,
        SpecBranch,
        SSD,
        BestFirst,
        Auto,
    )
}


def make_policy(name: str, **options: Any) -> Policy:
    """The policy called `name` (ar, sps, adaedl, pearl, specbranch, ssd, bestfirst, auto).

    options: the constructor's. Raises ValueError for an unknown name or option, and for a value
    that the policy refuses.
    """
    if name not in POLICIES:
        raise ValueError(f"method: expected one of {', '.join(POLICIES)}, got {name!r}")
    known = inspect.signature(POLICIES[name]).parameters
    for option in options:
        if option not in known:
            raise ValueError(f"{option}: expected an option of {name} ({', '.join(known)})")
    return POLICIES[name](**options)


__all__ = [
    "PEARL",
    "POLICIES",
    "SSD",
    "AdaEDL",
    "Auto",
    "Autoregressive",
    "BestFirst",
    "Outcome",
    "Policy",
    "SpecBranch",
    "SpeculativeSampling",
    "make_policy",
]
