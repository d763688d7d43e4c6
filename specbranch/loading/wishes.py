"""What a model's generation config asks for and does not get."""

from __future__ import annotations

import warnings

from transformers import PreTrainedModel

# What a generation config may ask of greedy decoding, and the values that ask for nothing.
_WISHES: dict[str, tuple[object, ...]] = {
    "repetition_penalty": (1, 1.0),
    "no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1, 1.0),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "bad_words_ids": ([],),
    "sequence_bias": ({}, []),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "guidance_scale": (1, 1.0),
    "stop_strings": ([], ""),
    "num_beams": (1,),
    "penalty_alpha": (0, 0.0),
    "dola_layers": (),
    "watermarking_config": (),
}


def tell_dropped_wishes(model: PreTrainedModel) -> None:
    """Warn of what a target's generation config asks of greedy decoding and is not done."""
    config = model.generation_config
    asked = [
        f"{name}={value!r}"
        for name, nothing in _WISHES.items()
        if (value := getattr(config, name, None)) is not None and value not in nothing
    ]
    if asked:
        warnings.warn(
            f"target: its generation config asks for {', '.join(asked)}, which is not done: texts "
            "are those of the model's own distribution",
            stacklevel=3,
        )
