"""Which source a draft model is."""

from __future__ import annotations

from specbranch.models.runner import ModelRunner
from specbranch.sources.model import ModelSource
from specbranch.sources.source import Source
from specbranch.sources.translated import TranslatedSource
from specbranch.vocabulary import Translation


def draft_source(
    runner: ModelRunner, translation: Translation | None, max_fan: int, vocab_size: int
) -> Source:
    """The draft that `runner` runs, as a source.

    translation: how it is understood if its tokenizer is another than the target's.
    max_fan: guesses of a node. vocab_size: of the target.
    """
    if translation:
        return TranslatedSource(runner, max_fan, translation)
    return ModelSource(runner, max_fan, vocab_size)
