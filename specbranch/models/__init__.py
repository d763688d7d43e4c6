"""Hugging Face models on our paged cache and attention."""

from __future__ import annotations

from specbranch.models.runner import ModelRunner

__all__ = ["ModelRunner"]
