from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from specbranch.stopping import Transcript
from tests.engine import tiny

TOKENIZER = tiny.tokenizer()


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


def committer(*stop: str, limit: int = 100, eos: tuple[int, ...] = (tiny.EOS,)) -> Transcript:
    return Transcript(TOKENIZER, eos, stop, limit)


def test_text_appears_as_tokens_are_committed():
    writer = committer()
    assert writer.commit(ids("hello")) == (ids("hello"), "hello")
    assert writer.commit(ids(" you")) == (ids(" you"), " you")
    assert (writer.finish_reason, writer.remaining) == (None, 91)


BYTE_FALLBACK = {f"<0x{byte:02X}>": byte for byte in range(256)}
BYTE_FALLBACK |= {piece: 256 + at for at, piece in enumerate(["▁a", "b", "é", "<unk>"])}


def byte_fallback_tokenizer() -> PreTrainedTokenizerFast:
    """Like those of Llama 2 and Mistral: what is no piece is written in bytes."""
    pieces = models.BPE(vocab=BYTE_FALLBACK, merges=[], unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(pieces)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_bytes_that_form_no_character():
    tokens = [BYTE_FALLBACK[piece] for piece in ("b", "<0x0A>", "<0xF0>", "▁a", "é")]
    writer = Transcript(byte_fallback_tokenizer(), (), (), 5)
    texts = [writer.commit([token])[1] for token in tokens]
    assert writer.token_ids == tokens
    assert "".join(texts) == writer.text == "b\n� aé"


@given(st.lists(st.integers(0, 258), min_size=1, max_size=12))
def test_any_tokens_have_a_text(tokens):
    writer = Transcript(byte_fallback_tokenizer(), (), (), len(tokens))
    texts = [writer.commit([token])[1] for token in tokens]
    assert "".join(texts) == writer.text


def test_tokens_after_eos_are_not_committed():
    writer = committer()
    tokens = [*ids("ab"), tiny.EOS, *ids("cd")]
    assert writer.commit(tokens) == (tokens[:3], "ab")
    assert (writer.finish_reason, writer.text) == ("eos", "ab")


def test_the_limit_cuts_a_block():
    writer = committer(limit=3)
    assert writer.commit(ids("abcde")) == (ids("abc"), "abc")
    assert writer.finish_reason == "length"


def test_a_limit_of_zero_is_finished_from_the_start():
    assert committer(limit=0).finish_reason == "length"


def test_a_stop_string_inside_a_block_ends_with_its_completing_token():
    writer = committer("cd")
    assert writer.commit(ids("abcdef")) == (ids("abcd"), "ab")
    assert (writer.finish_reason, writer.text) == ("stop", "ab")


def test_the_beginning_of_a_stop_string_is_held_back_until_it_is_decided():
    writer = committer("xyz", "yq")
    assert writer.commit(ids("axy"))[1] == "a"
    assert writer.commit(ids("a"))[1] == "xya"
    assert writer.commit(ids("xy"))[1] == ""
    assert writer.commit(ids("q"))[1] == "x"
    assert writer.finish_reason == "stop"


def test_held_back_text_is_released_at_the_end():
    writer = committer("xyz", limit=3)
    assert writer.commit(ids("axy")) == (ids("axy"), "axy")


def test_half_a_character_waits_for_its_other_half():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({byte: i for i, byte in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    tokens = tokenizer.encode("é!")
    writer = Transcript(tokenizer, (), (), 10)
    assert [writer.commit([token])[1] for token in tokens] == ["", "é", "!"]


def test_stop_strings_need_a_tokenizer():
    with pytest.raises(ValueError, match="stop"):
        Transcript(None, (), ("x",), 5)


@given(
    text=st.text("abc", max_size=30),
    stops=st.lists(st.text("abc", min_size=1, max_size=3), max_size=3),
    cuts=st.lists(st.integers(1, 5), min_size=30, max_size=30),
)
def test_blocks_never_change_what_is_committed_or_shown(text, stops, cuts):
    """However tokens arrive, the outcome is that of one at a time, and text never retracts."""
    single, blocks = committer(*stops), committer(*stops)
    tokens = ids(text)
    for token in tokens:
        single.commit([token])
    shown, rest = "", tokens
    for cut in cuts:
        shown += blocks.commit(rest[:cut])[1]
        rest = rest[cut:]
    assert blocks.token_ids == single.token_ids
    assert blocks.finish_reason == single.finish_reason
    assert blocks.text == single.text
    assert blocks.text.startswith(shown)
    if blocks.finish_reason:
        assert shown == blocks.text
    assert not any(stop in blocks.text for stop in stops)
