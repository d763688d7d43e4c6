"""Drafters write the target's own text, from the right branch, whoever joins and leaves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from specbranch.drafting import Chain, Drafter, SteppedDrafter, Subtree, Text, ThreadedDrafter
from specbranch.lanes.threads import ThreadLane
from specbranch.models.runner import ModelRunner
from specbranch.sources.drafts import draft_source
from specbranch.sources.ngram import NGramSource
from specbranch.sources.source import Source
from tests.drafting.gated import until
from tests.drafting.target import Decoding, Target
from tests.engine import tiny

VOCAB_SIZE = len(tiny.VOCAB)
MAX_LEN, LENGTH = 160, 80
PHRASE = [7, 3, 9, 30, 12, 40, 21]
PROMPTS = [[5, 9, 3], PHRASE * 3, [50, 2]]
FORMS = {"chain": Chain(5), "sure chain": Chain(5, least=0.3), "tree": Subtree(8, least=0.02)}


@pytest.fixture(scope="module")
def target() -> Target:
    return Target(tiny.model(seed=3))


@pytest.fixture
def lane() -> Iterator[ThreadLane]:
    lane = ThreadLane("draft", [0], 1)
    yield lane
    lane.close()


def model_source(noise: float = 0.15, max_texts: int = 4) -> Source:
    runner = ModelRunner(
        tiny.pair(seed=3, noise=noise).draft, max_len=MAX_LEN, max_nodes=32, max_requests=max_texts
    )
    return draft_source(runner, None, 16, VOCAB_SIZE)


def stepped(source: Source, lane: ThreadLane, form=FORMS["chain"], **more: object) -> Drafter:
    return SteppedDrafter(source, lane, form, steps=4, max_len=MAX_LEN, **more)


def check_texts(decoding: Decoding, target: Target) -> None:
    for prompt, text in zip(PROMPTS, decoding.texts.values(), strict=True):
        assert text[:LENGTH] == target.plain(prompt, LENGTH - len(prompt))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("source", ["model", "ngram", "model+ngram"])
def test_the_text_is_the_targets_and_takes_fewer_forwards(target, lane, source, form):
    ngrams = NGramSource(max_nodes=32)
    beside = {"ngrams": ngrams} if source == "model+ngram" else {}
    guessing = ngrams if source == "ngram" else model_source()
    decoding = Decoding(stepped(guessing, lane, FORMS[form], **beside), target)
    for prompt in PROMPTS:
        decoding.join(prompt)
    decoding.run(LENGTH)
    check_texts(decoding, target)
    tokens = sum(map(len, decoding.texts.values())) - sum(map(len, PROMPTS))
    assert decoding.forwards < (0.95 if source == "ngram" else 0.7) * tokens


@pytest.mark.parametrize("form", FORMS)
def test_a_draft_that_is_the_target_is_always_right(target, lane, form):
    """Whatever is said comes from the branch that came true, and from the right keys and values."""
    drafting = stepped(model_source(noise=0.0), lane, FORMS[form])
    decoding = Decoding(drafting, target)
    for prompt in PROMPTS:
        decoding.join(prompt)
    decoding.run(LENGTH)
    assert drafting.counts.hits == drafting.counts.walks > 0
    if form != "tree":
        assert decoding.right == decoding.guessed > 0


def test_an_answer_from_another_branch_is_seen(target, lane, monkeypatch):
    def elsewhere(self, text, top):
        siblings = text.tree.children(text.tree.parent[top]) if top else [top]
        return answer(self, text, siblings[-1])

    answer = Drafter._answer
    monkeypatch.setattr(Drafter, "_answer", elsewhere)
    decoding = Decoding(stepped(model_source(noise=0.0), lane), target)
    for prompt in PROMPTS:
        decoding.join(prompt)
    decoding.run(LENGTH)
    check_texts(decoding, target)
    assert decoding.right < decoding.guessed


def test_texts_join_and_leave(target, lane):
    decoding = Decoding(stepped(model_source(), lane), target)
    first = decoding.join(PROMPTS[0])
    for _ in range(6):
        decoding.round()
    second = decoding.join(PROMPTS[1])
    for _ in range(6):
        decoding.round()
    written = decoding.leave(first)
    assert written == target.plain(PROMPTS[0], len(written) - len(PROMPTS[0]))
    third = decoding.join(PROMPTS[2])
    decoding.run(LENGTH)
    for prompt, text in ((PROMPTS[1], second), (PROMPTS[2], third)):
        assert decoding.texts[text][:LENGTH] == target.plain(prompt, LENGTH - len(prompt))
    assert decoding.right > 0


def test_a_text_that_pauses_finds_its_tree_again(target, lane):
    decoding = Decoding(stepped(model_source(noise=0.0), lane), target)
    paused, other = (decoding.join(prompt) for prompt in PROMPTS[:2])
    for _ in range(3):
        decoding.round()
    for _ in range(3):
        decoding.round([other])
    guessed = decoding.guessed
    assert decoding.round([paused])[paused].tokens
    assert decoding.right == decoding.guessed > guessed


def test_who_finds_no_room_waits_for_it(target, lane):
    decoding = Decoding(stepped(model_source(noise=0.0, max_texts=1), lane), target)
    first, second = (decoding.join(prompt) for prompt in PROMPTS[:2])
    for _ in range(4):
        answers = decoding.round()
        assert answers[second].tokens == []
    assert answers[first].tokens
    decoding.leave(first)
    decoding.round()
    assert decoding.round()[second].tokens
    decoding.run(LENGTH)
    assert decoding.texts[second][:LENGTH] == target.plain(PROMPTS[1], LENGTH - len(PROMPTS[1]))


def test_nothing_is_said_beyond_the_longest_text(target, lane):
    decoding = Decoding(stepped(model_source(noise=0.0), lane), target)
    text = decoding.join(PROMPTS[0])
    while len(decoding.texts[text]) < MAX_LEN + 3:
        (answer,) = decoding.round().values()
        if answer.tokens:
            assert len(decoding.texts[text]) + len(answer.tokens) < MAX_LEN


def test_a_long_prompt_is_read_in_chunks(lane):
    """Its text goes on meanwhile."""
    source = draft_source(
        ModelRunner(tiny.pair(seed=3, noise=0.0).draft, max_len=1200, max_nodes=32),
        None,
        16,
        VOCAB_SIZE,
    )
    drafting = ThreadedDrafter(source, lane, Chain(3), max_len=1200)
    text = drafting.begin([1 + token % 60 for token in range(1100)])
    for token in range(40):
        drafting.propose({text: [token]})
    while not text.ready:
        drafting.propose({text: []})
    drafting.propose({text: [7]})
    assert drafting.propose({text: []})[0].tokens
    drafting.close()


@pytest.mark.parametrize("form", ["chain", "tree"])
def test_a_thread_writes_the_targets_text(target, lane, form):
    drafting = ThreadedDrafter(model_source(), lane, FORMS[form], max_len=MAX_LEN)
    decoding = Decoding(drafting, target)
    for prompt in PROMPTS:
        decoding.join(prompt)
    while going := [text for text, tokens in decoding.texts.items() if len(tokens) < LENGTH]:
        decoding.round(going)
        until(lambda going=going: all(map(has_grown, going)))
    drafting.close()
    check_texts(decoding, target)
    assert decoding.right > 0
    assert drafting.counts.hits > 0


def has_grown(text: Text) -> bool:
    return text.ready and not text.told and text.tree.num_expanded >= 4


@pytest.mark.parametrize("tokens", [[], [1] * (MAX_LEN + 1)])
def test_texts_that_cannot_be(lane, tokens):
    with pytest.raises(ValueError, match=f"tokens: expected 1 to {MAX_LEN} of them"):
        stepped(model_source(), lane).begin(tokens)
