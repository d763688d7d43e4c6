"""A tiny target that speaks by a chat template, and a corpus that it wrote."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from specbranch.training.distill.corpus import Corpus
from specbranch.training.distill.generate import BatchedWriter, Written
from specbranch.training.distill.passages import Frame, PassageWriter
from tests.engine import tiny
from tests.threads import one_thread

__all__ = ["one_thread"]

# A space ends the user's message, X starts the answer.
TEMPLATE = (
    "{% for m in messages %}U{{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}X{% endif %}"
)
PROMPTS = [[7 + n % 50, 3, 9, 30 + n % 20, 12, 40] for n in range(40)]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    speaking = tiny.tokenizer()
    speaking.chat_template = TEMPLATE
    return speaking


@pytest.fixture(scope="session")
def writer(tokenizer: PreTrainedTokenizerFast) -> PassageWriter:
    frame = Frame.of(tokenizer)
    return PassageWriter(PROMPTS, frame, {tiny.EOS}, max_message=8, max_answer=20)


@pytest.fixture(scope="session")
def write(writer: PassageWriter) -> Callable[[int, int], list[Written]]:
    """The first passages that the tiny target finishes under a seed."""

    def passages(count: int, seed: int) -> list[Written]:
        batched = BatchedWriter(tiny.pair(), writer, writer.passages(seed, 0), batch=5)
        finished = batched.finished()
        return [next(finished) for _ in range(count)]

    return passages


@pytest.fixture(scope="session")
def corpus(
    tmp_path_factory: pytest.TempPathFactory, write: Callable[[int, int], list[Written]]
) -> Corpus:
    corpus = Corpus(tmp_path_factory.mktemp("corpus"))
    passages = write(240, 0)
    corpus.add(passages[:120], 0, 125)
    corpus.add(passages[120:], 0, 245)
    return corpus
