"""Pairs of models from folders, hubs and packages, made ready for few rows."""

from __future__ import annotations

from specbranch.loading.pair import ModelPair, load_pair

__all__ = ["ModelPair", "load_pair"]
