"""Drafts of other tokenizers: loaded, understood, and without a say in what the text is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import ThreadLanes, VirtualLanes
from specbranch.loading.pair import ModelPair, load_pair
from specbranch.policies import Autoregressive, BestFirst, SpeculativeSampling
from specbranch.sampling import SamplingParams
from specbranch.vocabulary import Translation, Vocabulary, token_texts
from tests.engine import tiny
from tests.engine.test_identity import POLICIES, PROMPTS, params_of
from tests.engine.test_many import MIXES, texts

PIECES = ["<s>", "</s>", *tiny.VOCAB[1:], "ab", "cd", "QW", "w w", "zzz", "eZ9", "fgh", "é"]


def speaker(words: list[str], **settings: object) -> PreTrainedTokenizerFast:
    """A tokenizer that takes the first of the words, longest before shorter ones, at each place."""
    backend = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(words)}, unk_token=words[0])
    )
    longest = sorted((word for word in words if "<" not in word), key=len, reverse=True)
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("|".join(longest)), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)


def save(folder: Path, llama, tokenizer: PreTrainedTokenizerFast) -> str:
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def added(tokenizer: PreTrainedTokenizerFast, *names: str) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens({"additional_special_tokens": list(names)})
    return tokenizer


DRAFTS: dict[str, Callable[[], tuple]] = {
    "pieces": lambda: (
        tiny.model(seed=3, vocab_size=len(PIECES)),
        speaker(PIECES, eos_token="</s>", bos_token="<s>"),
    ),
    "reordered": lambda: (tiny.model(seed=3), speaker(["<e>", *reversed(tiny.VOCAB[1:])])),
    "few": lambda: (tiny.model(seed=3, vocab_size=9), speaker([*"abcdxyz ", "ab"])),
}


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return save(tmp_path_factory.mktemp("target"), tiny.model(), tiny.tokenizer())


@pytest.fixture(scope="module", params=DRAFTS)
def pair(request, target, tmp_path_factory) -> ModelPair:
    return load_pair(target, save(tmp_path_factory.mktemp("draft"), *DRAFTS[request.param]()))


def engine_of(pair: ModelPair, policy, **options) -> Engine:
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    return Engine(pair, policy, **{"lanes": lanes, "max_len": 128} | options)


@pytest.fixture(scope="module")
def plain(pair):
    """Texts of the target alone, each written once."""
    assert pair.translation
    engine, texts = engine_of(pair, Autoregressive()), {}

    def write(prompt: list[int], params: SamplingParams) -> list[int]:
        key = (*prompt, repr(params))
        if key not in texts:
            texts[key] = engine.generate(prompt, params).token_ids
        return texts[key]

    return write


COUPLINGS = [pytest.param("rejection", marks=pytest.mark.long), "gumbel"]


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_writes_what_the_target_alone_writes(pair, plain, policy, coupling):
    engine = engine_of(pair, POLICIES[policy]())
    for filters in ("greedy", "all"):
        params = params_of(filters, coupling=coupling, max_new_tokens=24)
        together = engine.generate(PROMPTS, params)
        assert [each.token_ids for each in together] == [plain(each, params) for each in PROMPTS]


def test_rejection_draws_what_it_draws_in_plain_decoding(pair, plain):
    engine = engine_of(pair, BestFirst())
    for prompt in PROMPTS:
        params = params_of("T=1", coupling="rejection")
        assert engine.generate(prompt, params).token_ids == plain(prompt, params)


@pytest.mark.parametrize("options", [{"max_nodes": 3}, {"max_nodes": 8, "source": "model+ngram"}])
@pytest.mark.parametrize("policy", ["sps", "pearl", "bestfirst-wide", "random-1"])
def test_a_tiny_block_still_makes_progress(pair, plain, policy, options):
    engine, params = engine_of(pair, POLICIES[policy](), **options), params_of("T=0.7")
    params = params_of("T=0.7", max_new_tokens=20)
    assert engine.generate(PROMPTS[2], params).token_ids == plain(PROMPTS[2], params)


@pytest.mark.parametrize("policy", ["pearl", "bestfirst"])
def test_threads_and_joins_write_it_too(pair, plain, policy):
    wanted = [(prompt, params) for params in MIXES["both couplings"] for prompt in PROMPTS]
    expected = [plain(*each) for each in wanted]
    with ThreadLanes(1, 1) as lanes:
        engine = engine_of(pair, POLICIES[policy](), lanes=lanes, max_requests=4)
        assert texts(engine, wanted) == expected


def test_the_draft_goes_on_where_its_context_ends(target, tmp_path):
    """The prompt has more tokens of the draft's than the request may have of the target's."""
    words = ["abcdefgh", *tiny.VOCAB[1:]]
    long = save(tmp_path / "long", tiny.model(vocab_size=len(words)), speaker(words))
    pair = load_pair(long, target)
    prompt = [0] * 40 + [5]
    plain, engine = (engine_of(pair, each) for each in (Autoregressive(), BestFirst()))
    params = params_of("T=1", max_new_tokens=80)
    assert engine.generate(prompt, params).token_ids == plain.generate(prompt, params).token_ids


UNEVEN: dict[str, Callable[[], tuple]] = {
    "fewer": lambda: (tiny.with_vocabulary(tiny.model(), 60), tiny.tokenizer(60)),
    "more": lambda: (
        tiny.with_vocabulary(tiny.model(), 70),
        speaker([*tiny.VOCAB, *"éèàùç", "ab"], eos_token="<eos>"),
    ),
    "other added ones": lambda: (
        tiny.with_vocabulary(tiny.model(), 66),
        added(tiny.tokenizer(60), "<x>", "<y>", "<z>", "<u>", "<v>", "<w>"),
    ),
}


@pytest.mark.parametrize("other", UNEVEN)
def test_shared_ids_are_guessed_and_no_others(target, tmp_path, other):
    pair = load_pair(target, save(tmp_path, *UNEVEN[other]()))
    assert pair.translation is None
    columns = getattr(pair.draft, "token_ids", None)
    shared = {"fewer": None, "more": list(range(64)), "other added ones": list(range(60))}[other]
    assert (columns is None) == (shared is None)
    if columns is not None:
        assert columns.tolist() == shared
    plain, engine = (
        engine_of(pair, each) for each in (Autoregressive(), SpeculativeSampling(gamma=4))
    )
    for coupling in ("gumbel", "rejection"):
        params = params_of("greedy", coupling=coupling)
        generation = engine.generate(PROMPTS[1], params)
        assert generation.token_ids == plain.generate(PROMPTS[1], params).token_ids
        assert generation.stats.acceptance_rate > 0.4  # the target's own weights


def test_the_same_words_at_other_ids_are_guessed_right(target, tmp_path):
    """The target with its tokens reordered is a perfect draft, through text."""
    order = [0, *range(63, 0, -1)]
    llama = tiny.model()
    for weight in (llama.model.embed_tokens.weight, llama.lm_head.weight):
        weight.data = weight.data[order].clone()
    words = ["<e>", *(tiny.VOCAB[n] for n in order[1:])]
    pair = load_pair(target, save(tmp_path, llama, speaker(words, eos_token="<e>")))
    assert pair.translation
    engine = engine_of(pair, SpeculativeSampling(gamma=4))
    for filters in ("greedy", "T=1"):  # at T = 1 it shares the target's noise
        stats = engine.generate(PROMPTS[1], params_of(filters)).stats
        assert stats.acceptance_rate > 0.95, filters


def test_a_token_is_the_longest_that_a_text_begins_with():
    vocabulary = Vocabulary([b"a", b"ab", b"abcd", b"", b"ab", b"\xc3", b" c"])
    assert [vocabulary.longest(text) for text in (b"abc", b"abcde", b"b", b"")] == [1, 2, -1, -1]
    assert vocabulary.split(b"abxab c\xc3\xa9") == [1, 1, 6, 5]
    assert vocabulary.has_longer(b"abc")
    assert vocabulary.has_longer(b"a")
    assert not vocabulary.has_longer(b"abcd")
    assert vocabulary.text([0, 3, 6]) == b"a c"


def test_parts_of_characters_are_bytes():
    backend = Tokenizer(models.BPE({"a": 0, "Ġ": 1, "Ã": 2, "©": 3, "Ġa": 4}, [("Ġ", "a")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert token_texts(tokenizer) == [b"a", b" ", b"\xc3", b"\xa9", b" a"]


def test_a_space_that_begins_a_piece_is_kept():
    backend = Tokenizer(
        models.Unigram([("<unk>", 0.0), ("▁a", -1.0), ("a", -2.0), ("<0xC3>", -3.0)], 0, True)
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert token_texts(tokenizer)[1:] == [b" a", b"a", b"\xc3"]


def test_nothing_in_common_is_refused():
    with pytest.raises(ValueError, match="some of the target's text, got none"):
        Translation.between(speaker(["a", "b"]), speaker(["é", "è"]), 2)


def test_what_needs_shared_ids_says_so(pair):
    with pytest.raises(ValueError, match="shares the target's tokens to be replayed, got"):
        pair.require_shared_ids("to be replayed")
    dataclasses.replace(pair, translation=None).require_shared_ids("to be replayed")
