"""Drafting for another engine's texts, from the branches that come true."""

from __future__ import annotations

from specbranch.drafting.drafter import Counts, Drafter, Text
from specbranch.drafting.forms import Answer, Chain, Form, Subtree
from specbranch.drafting.stepped import SteppedDrafter
from specbranch.drafting.threaded import ThreadedDrafter

__all__ = [
    "Answer",
    "Chain",
    "Counts",
    "Drafter",
    "Form",
    "SteppedDrafter",
    "Subtree",
    "Text",
    "ThreadedDrafter",
]
