"""Passages, their writing in batches, the corpus on disk, and its layout for training."""

from __future__ import annotations

import copy
import random
from itertools import islice

import pytest
import torch

from specbranch.training.distill.batches import make_batch, read_examples, shuffled_batches
from specbranch.training.distill.corpus import Corpus, read_shard
from specbranch.training.distill.generate import BatchedWriter
from specbranch.training.distill.passages import Frame, Passage, PassageWriter
from tests.engine import tiny

from .conftest import PROMPTS

U, SPACE, X = (tiny.VOCAB.index(token) for token in ("U", " ", "X"))


def test_the_frame_is_what_the_template_puts_around_a_message(tokenizer):
    assert Frame.of(tokenizer) == Frame((U,), (SPACE, X))
    assert Frame.of(tiny.tokenizer()) == Frame((), ())


@pytest.mark.parametrize(
    ("content", "times"), [("m['content'] | trim", 1), ("m['content'] * 2", 2)]
)
def test_templates(tokenizer, content, times):
    trimming = copy.deepcopy(tokenizer)
    trimming.chat_template = tokenizer.chat_template.replace("m['content']", content)
    assert trimming.chat_template != tokenizer.chat_template
    if times == 1:
        assert Frame.of(trimming) == Frame.of(tokenizer)
    else:
        with pytest.raises(ValueError, match="a user's message once, got one that shows it 2"):
            Frame.of(trimming)


def test_passages_are_a_function_of_seed_and_number(writer):
    some = list(islice(writer.passages(3, 0), 60))
    assert list(islice(writer.passages(3, 20), 10)) == some[20:30]
    assert list(islice(writer.passages(4, 0), 60)) != some


def test_passages_begin_with_a_part_of_their_prompt(writer):
    kept = set()
    for passage in islice(writer.passages(0, 0), 200):
        prompt = PROMPTS[passage.prompt]
        assert passage.tokens[0] == U
        end = None if passage.answer_start is None else -2
        message = passage.tokens[1:end]
        assert message == prompt[: len(message)]
        if end:
            assert (message, passage.tokens[end:]) == (prompt, [SPACE, X])
            assert passage.answer_start == len(passage.tokens)
        kept.add(len(message))
    assert kept == set(range(len(PROMPTS[0]) + 1))


def begun(*message: int) -> Passage:
    return Passage(0, [U, *message], 1, None, 0.7, seed=1)


@pytest.mark.parametrize("mark", [SPACE, tiny.EOS])
def test_a_message_ends_with_its_mark_and_is_answered_to_the_end(writer, mark):
    passage = begun(5)
    params = writer.params(passage)
    assert (params.temperature, params.max_new_tokens) == (1.0, 7)
    assert params.eos_token_ids == {SPACE, tiny.EOS}
    assert writer.extend(passage, [6, mark])
    assert (passage.tokens, passage.answer_start) == ([U, 5, 6, SPACE, X], 5)
    params = writer.params(passage)
    assert (params.temperature, params.max_new_tokens, params.seed) == (0.7, 20, 1)
    assert params.eos_token_ids == {tiny.EOS}
    assert not writer.extend(passage, [SPACE, tiny.EOS])
    assert passage.tokens[-2:] == [SPACE, tiny.EOS]


def test_messages_and_answers_have_a_limit(writer):
    passage = begun()
    writer.extend(passage, [9] * writer.params(passage).max_new_tokens)
    assert passage.tokens == [U, *[9] * 8, SPACE, X]
    writer.extend(passage, [9] * writer.params(passage).max_new_tokens)
    assert len(passage.tokens) == writer.max_len
    full = begun(*[9] * 8)
    assert writer.params(full).max_new_tokens == 0
    assert writer.extend(full, [])
    assert full.tokens == passage.tokens[: len(full.tokens)]


def test_without_a_template_all_that_follows_the_prompt_is_the_answer():
    writer = PassageWriter(PROMPTS, Frame((), ()), {tiny.EOS}, max_message=4, max_answer=5)
    for passage in islice(writer.passages(0, 0), 20):
        assert passage.answer_start == len(passage.tokens) > 0


def test_each_passage_is_what_its_target_writes_alone(write):
    """Greedy answers are transformers' own, and hidden states give the law of what follows."""
    alone = tiny.model()
    seen = 0
    for passage in write(30, 0):
        tokens = passage.tokens.long()[None]
        with torch.inference_mode():
            output = alone(tokens, output_hidden_states=True)
        n = passage.answer_start
        expected = output.hidden_states[-1][0, n - 1 :]
        torch.testing.assert_close(passage.hidden[n - 1 :], expected, rtol=1e-3, atol=1e-3)
        assert not passage.hidden[: n - 1].any()
        if passage.greedy:
            seen += 1
            choices = output.logits[0].argmax(-1)
            assert tokens[0, n:].tolist() == choices[n - 1 : -1].tolist()
    assert seen > 3


def test_a_batch_writes_what_one_at_a_time_writes(writer, write):
    single = BatchedWriter(tiny.pair(), writer, writer.passages(0, 0), batch=1).finished()
    batched = {tuple(passage.tokens.tolist()) for passage in write(40, 0)}
    assert all(tuple(next(single).tokens.tolist()) in batched for _ in range(10))


def test_a_corpus_keeps_what_was_added(tmp_path, write):
    corpus = Corpus(tmp_path)
    passages = write(7, 0)
    assert corpus.next_passage(0) == 0
    corpus.add(passages[:4], seed=0, next_passage=9)
    corpus.add(passages[4:], seed=0, next_passage=12)
    corpus.add(passages, seed=3, next_passage=30)
    assert [path.name for path in corpus.shards()] == [
        "0-00000.safetensors",
        "0-00001.safetensors",
        "3-00000.safetensors",
    ]
    assert [corpus.next_passage(seed) for seed in (0, 1, 3)] == [12, 0, 30]
    shard = read_shard(corpus.shards()[1])
    for index, passage in enumerate(passages[4:]):
        place = slice(*shard.starts[index : index + 2].tolist())
        assert torch.equal(shard.tokens[place], passage.tokens)
        assert torch.equal(shard.hidden[place], passage.hidden)
        assert shard.answer_starts[index] == passage.answer_start
        assert (shard.prompts[index], shard.greedy[index]) == (passage.prompt, passage.greedy)


def test_held_out_prompts_are_never_trained_on(corpus):
    training, held_out = read_examples(corpus)
    held_out_prompts = {tuple(PROMPTS[n]) for n in (0, 20)}
    whole = {tuple(example.tokens[1:7].tolist()) for example in training}
    assert not whole & held_out_prompts
    assert held_out


def test_a_corpus_without_held_out_prompts_is_refused(tmp_path, write):
    corpus = Corpus(tmp_path)
    corpus.add([each for each in write(40, 0) if each.prompt % 20], 0, 0)
    with pytest.raises(ValueError, match=r"greedy ones of held-out prompts.*got .* and 0"):
        read_examples(corpus)


def test_batches_hold_every_example_once(corpus):
    examples, _ = read_examples(corpus)
    batches = list(shuffled_batches(examples, tokens=96, length=32, seed=1))
    assert all(len(batch.tokens) == sum(batch.lengths) <= 96 for batch in batches)
    assert sum(len(batch.lengths) for batch in batches) == len(examples)
    states = torch.cat([batch.hidden for batch in batches])
    expected = torch.cat([each.hidden[each.answer_start - 1 :] for each in examples])
    assert states.shape == expected.shape
    assert torch.equal(states.sum(1).sort().values, expected.sum(1).sort().values)
    again = list(shuffled_batches(examples, tokens=96, length=32, seed=2))
    assert not torch.equal(again[0].tokens, batches[0].tokens)


def test_an_example_longer_than_a_batch_is_alone(corpus):
    examples, _ = read_examples(corpus)
    batches = list(shuffled_batches(examples, tokens=2, length=32, seed=1))
    assert [len(batch.lengths) for batch in batches] == [1] * len(examples)


def test_passages_are_end_to_end(corpus):
    examples, _ = read_examples(corpus)
    first, second = random.Random(0).sample(examples, 2)
    batch = make_batch([first, second], length=64)
    n, m = len(first.tokens), len(second.tokens)
    assert batch.lengths == (n, m)
    assert torch.equal(batch.tokens, torch.cat([first.tokens, second.tokens]).long())
    assert torch.equal(batch.positions, torch.cat([torch.arange(n), torch.arange(m)]))
    assert batch.places[-1] == n + m - 1
    answer = m - second.answer_start + 1
    assert torch.equal(batch.places[-answer:], torch.arange(n + second.answer_start - 1, n + m))
    assert torch.equal(batch.hidden[-answer:], second.hidden[second.answer_start - 1 :])


def test_long_passages_are_cut(corpus):
    examples, _ = read_examples(corpus)
    longest = max(examples, key=lambda example: len(example.tokens))
    batch = make_batch([longest], length=longest.answer_start + 2)
    assert len(batch.tokens) == longest.answer_start + 2
    assert len(batch.hidden) == 3
