"""Hugging Face models on our paged cache and attention."""

from __future__ import annotations

from specbranch.models.pair import ModelPair, load_pair
from specbranch.models.runner import ModelRunner

__all__ = ["ModelPair", "ModelRunner", "load_pair"]
