"""Draft sources: who guesses what may follow the nodes of a tree."""

from __future__ import annotations

from specbranch.sources.source import Guesses, Source, Wanted

__all__ = ["Guesses", "Source", "Wanted"]
