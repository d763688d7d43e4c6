"""What `model.generate(custom_generate=specbranch.generate(...))` does not do, and says so."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    DynamicCache,
    LogitNormalization,
    MinLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import specbranch
from tests.adapters.plain import GREEDY, ONE
from tests.engine import tiny


def test_stop_strings_are_refused_by_transformers_itself(model, ours):
    """It keeps the tokenizer from functions like ours; see the criterion above."""
    asked = {**GREEDY, "stop_strings": ["ab"], "tokenizer": tiny.tokenizer()}
    with pytest.raises(ValueError, match="stop strings"):
        model.generate(ONE, custom_generate=ours, **asked)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (
            {"logits_processor": [RepetitionPenaltyLogitsProcessor(1.3, prompt_ignore_length=2)]},
            "RepetitionPenaltyLogitsProcessor",
        ),
        (
            {"logits_processor": [LogitNormalization(), RepetitionPenaltyLogitsProcessor(1.3)]},
            "RepetitionPenaltyLogitsProcessor",
        ),
        (
            {"logits_processor": [MinLengthLogitsProcessor(9, [4])], "eos_token_id": 3},
            "MinLengthLogitsProcessor",
        ),
        ({"no_repeat_ngram_size": 2}, "NoRepeatNGramLogitsProcessor"),
        ({"suppress_tokens": [5]}, "SuppressTokensLogitsProcessor"),
        ({"bad_words_ids": [[5, 6]]}, "NoBadWordsLogitsProcessor"),
        ({"sequence_bias": [[[5, 6], 2.0]]}, "SequenceBiasLogitsProcessor"),
        ({"do_sample": True, "typical_p": 0.5}, "TypicalLogitsWarper"),
        ({"prefix_allowed_tokens_fn": lambda *_: [3]}, "PrefixConstrainedLogitsProcessor"),
        (
            {"logits_processor": [TopPLogitsWarper(0.5), TemperatureLogitsWarper(2.0)]},
            "in this order",
        ),
        ({"logits_processor": [TopPLogitsWarper(0.5, min_tokens_to_keep=2)]}, "TopPLogitsWarper"),
        ({"logits_processor": [TopKLogitsWarper(5, filter_value=-9.0)]}, "TopKLogitsWarper"),
        ({"num_beams": 2}, "generation mode: expected greedy_search or sample, got 'beam_search'"),
        ({"prompt_lookup_num_tokens": 3}, "got 'assisted_generation'"),
        ({"assistant_model": tiny.model()}, "got 'assisted_generation'"),
        ({"synced_gpus": True}, "synced_gpus"),
        ({"return_dict_in_generate": True, "output_scores": True}, "output_scores: expected"),
        ({"return_dict_in_generate": True, "output_logits": True}, "output_logits: expected"),
        ({"output_hidden_states": True}, "output_hidden_states: expected"),
        ({"use_cache": False}, "use_cache: expected None or True, got False"),
        ({"cache_implementation": "static"}, "cache_implementation: expected None or dynamic"),
        ({"past_key_values": DynamicCache()}, "past_key_values"),
        ({"position_ids": torch.arange(3, 8)[None]}, "position_ids: expected 0, 1"),
        ({"attention_mask": torch.tensor([[1, 1, 1, 1, 0]])}, "padding on the left"),
        ({"attention_mask": torch.tensor([[1, 0, 1, 1, 1]])}, "padding on the left"),
        ({"max_new_tokens": 600}, "max_new_tokens: expected prompt and output to fit 512"),
    ],
)
def test_what_is_refused(model, ours, asked, named):
    with pytest.raises(ValueError, match=named):
        model.generate(ONE, custom_generate=ours, **{**GREEDY, **asked})


def test_a_read_cache_and_embeddings_are_refused(model, ours):
    cache = DynamicCache()
    model(ONE[:, :-1], past_key_values=cache)
    with pytest.raises(ValueError, match="past_key_values"):
        model.generate(ONE, custom_generate=ours, past_key_values=cache, **GREEDY)
    embeddings = model.get_input_embeddings()(ONE)
    with pytest.raises(ValueError, match="inputs: expected input_ids and attention_mask, got 'inp"):
        model.generate(inputs_embeds=embeddings, custom_generate=ours, **GREEDY)


def test_methods_that_are_none():
    with pytest.raises(ValueError, match="method: expected one of"):
        specbranch.generate(method="best")
    with pytest.raises(ValueError, match="gama: expected an option of sps"):
        specbranch.generate(method="sps", gama=3)
    with pytest.raises(ValueError, match="source: expected one of"):
        tiny.model().generate(ONE, custom_generate=specbranch.generate(source="x"), **GREEDY)
