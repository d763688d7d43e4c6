"""A target model, a draft model that guesses its text, and the target's tokenizer."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import torch
from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from specbranch.loading.builtin import builtin_folder, builtin_gguf
from specbranch.loading.distilled import is_distilled, load_draft, narrow_draft, stored_bits
from specbranch.loading.huge_pages import move_to_huge_pages
from specbranch.loading.placement import (
    check_device,
    check_dtype,
    default_draft,
    default_draft_device,
    default_dtype,
)
from specbranch.loading.prepack import pack_linears
from specbranch.loading.quantized import (
    WEIGHTS,
    describe_weights,
    quantize_model,
    quantized_copy,
)
from specbranch.loading.reading import loading, read_folder, read_gguf
from specbranch.loading.wishes import tell_dropped_wishes
from specbranch.models.support import kv_shape
from specbranch.texts import valid_unicode
from specbranch.vocabulary import Translation

_PROMPT = "one request's text, chat messages or token ids"

PLAIN = "plain"


@dataclass(frozen=True)
class ModelPair:
    """A model and one that guesses for it.

    target: the model whose text is produced.
    draft: the model that guesses it.
    tokenizer: of the target; where prompts are token ids and texts are not wanted, None will do.
    target_name, draft_name: as given to `load_pair`.
    eos_token_ids: tokens that end a text.
    translation: how the draft is understood that has a tokenizer of its own, None where the two
        share the ids of tokens.
    """

    target: PreTrainedModel
    draft: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    target_name: str
    draft_name: str
    eos_token_ids: frozenset[int]
    translation: Translation | None = None

    @property
    def device(self) -> torch.device:
        """Of the target; the draft may be on another, then only token ids and what became of them
        cross, and under the rejection coupling the laws of draws."""
        return self.target.device

    @property
    def dtype(self) -> torch.dtype:
        """Of all but the quantised weights."""
        return self.target.dtype

    @property
    def weights(self) -> str:
        """What the target's and the draft's matrices are made of, in words."""
        target, draft = describe_weights(self.target), describe_weights(self.draft)
        return f"target {target}, draft {draft}"

    def require_shared_ids(self, purpose: str) -> None:
        """Raise ValueError if the draft has a tokenizer of its own."""
        if self.translation:
            raise ValueError(
                f"draft: expected one that shares the target's tokens {purpose}, got "
                f"{self.draft_name}, which has another tokenizer"
            )

    def encode(self, prompt: str | Sequence[dict[str, Any]] | Sequence[int]) -> list[int]:
        """Token ids of a prompt.

        A string becomes one user message if the tokenizer has a chat template, else it is encoded
        as it is; a list of messages needs a template; a list of ids is taken as it is. An empty
        prompt is the tokenizer's BOS token alone. What is no valid Unicode in a text becomes it,
        see `valid_unicode`.

        Raises ValueError for anything else, for an empty prompt without a BOS token, and for
        messages without a chat template.
        """
        if not isinstance(prompt, Sequence) or isinstance(prompt, bytes | bytearray | memoryview):
            raise ValueError(f"prompt: expected {_PROMPT}, got {type(prompt).__name__}")
        if not prompt:
            if self.tokenizer.bos_token_id is None:
                raise ValueError("prompt: expected at least one token, got none (and no BOS token)")
            return [self.tokenizer.bos_token_id]
        if isinstance(prompt, str):
            if not self.tokenizer.chat_template:
                return list(self.tokenizer(valid_unicode(prompt))["input_ids"])
            return self._encode_messages([{"role": "user", "content": prompt}])
        if all(isinstance(message, dict) for message in prompt):
            return self._encode_messages(cast("Sequence[dict[str, Any]]", prompt))
        if all(isinstance(token, Integral) and not isinstance(token, bool) for token in prompt):
            return [int(token) for token in cast("Sequence[int]", prompt)]
        kinds = ", ".join(sorted({type(each).__name__ for each in prompt}))
        raise ValueError(f"prompt: expected {_PROMPT}, got a sequence of {kinds}")

    def _encode_messages(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        if not self.tokenizer.chat_template:
            raise ValueError("prompt: got messages, but the tokenizer has no chat template")
        try:
            written: Any = self.tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, tokenize=False
            )
        except TemplateError as error:
            raise ValueError(f"prompt: not understood: {error}") from error
        encoded = self.tokenizer(valid_unicode(written), add_special_tokens=False)
        return list(encoded["input_ids"])


def load_pair(
    target: str | os.PathLike[str] = "builtin:smollm2",
    draft: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "cpu",
    draft_device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    target_weights: str | None = None,
    draft_weights: str | None = None,
) -> ModelPair:
    """Load both models and check that they can work together.

    On CPU the models' linear layers are laid out for skinny products (see `prepack`, `quantized`):
    they then cannot move to another device or dtype.

    target: a hub id, a local folder, a `.gguf` file, or `builtin:smollm2`.
    draft: the same, or `self:int4` / `self:int8`, the target's own weights quantised (on cpu only),
        or a folder written by `specbranch distill` for this target, or `builtin:smollm2-draft`; or
        `self`, the target itself, where no draft is needed. By default `self:int4`; for the
        built-in target on a GPU or in q4, of which there is none, one of its own.
    device: `cpu` or `cuda[:n]`.
    draft_device: of the draft; another GPU, or `cpu` beside a target on one. By default the same,
        but `cpu` for a draft in few bits.
    dtype: `float32`, `bfloat16` or `float16`, of all but the quantised weights; by default
        `float32` on cpu, `bfloat16` on a GPU.
    target_weights, draft_weights: `q4` or `q8`, matrices in 4 or 8 bits in groups of 32, the head
        and the embedding in 8, on cpu only; `plain`, in `dtype`; None, as stored: in `dtype`, but
        on cpu a `.gguf` file keeps its blocks of Q4_0, Q4_1, Q8_0 and (rounded to 8 bits) Q6_K,
        and a distilled draft its 8 bits. `builtin:smollm2` counts as stored in float32; asked for
        q4 or q8 it is its GGUF file, block by block.

    With quantised weights the text is that of the quantised model, exactly.

    A draft's tokenizer may have other added tokens than the target's, or more or fewer tokens: it
    guesses those that both have. With another one altogether it works through text: it reads the
    text in its own tokens, and its guesses are those of the target's tokens that begin what it
    would write. The target's text stays what it is; only guesses suffer.

    Weights are read from safetensors and GGUF files alone, and no code of a model's own is run.
    Warns of what the target's generation config asks for and is not done.

    Raises ValueError for a model that cannot be found, read or run, a device that this machine,
    torch or build lacks, an unknown dtype, or weights that a model cannot have.
    """
    target, draft = os.fspath(target), None if draft is None else os.fspath(draft)
    on_device = check_device("device", device)
    given = None if draft_device is None else check_device("draft_device", draft_device)
    draft = draft or default_draft(target, target_weights, given or on_device)
    beside = place_of_draft(draft, draft_weights, on_device, given)
    in_dtype = default_dtype(on_device) if dtype is None else check_dtype(dtype)
    _check_weights("target_weights", target_weights, on_device)
    target_model, tokenizer = load_model("target", target, on_device, in_dtype, target_weights)
    draft_model, translation = load_draft_for(target_model, tokenizer, draft, beside, draft_weights)
    lay_out_weights(target_model, draft_model)
    tell_dropped_wishes(target_model)
    return ModelPair(
        target=target_model,
        draft=draft_model,
        tokenizer=tokenizer,
        target_name=target,
        draft_name=draft,
        eos_token_ids=eos_token_ids(target_model, tokenizer),
        translation=translation,
    )


def place_of_draft(
    draft: str, weights: str | None, target_device: torch.device, given: torch.device | None
) -> torch.device:
    """The device of a draft of that name and weights: the `given` one, or its default.

    Raises ValueError where it cannot be there.
    """
    device = given or default_draft_device(draft, weights, target_device)
    if device.type == "cuda" and target_device.type == "cpu":
        raise ValueError(f"draft_device: expected cpu like device, got {device}")
    if draft.startswith("self:") and device.type != "cpu":
        raise ValueError(
            f"draft: {draft} runs on cpu only, got {device}; a small model of the target's family "
            "or a draft of `specbranch distill` runs there, as does builtin:smollm2-draft"
        )
    _check_weights("draft_weights", weights, device)
    return device


def is_made_from_target(draft: str) -> bool:
    """Whether a draft of that name shares weights with its target."""
    if draft == "self" or draft.startswith("self:"):
        return True
    return not draft.endswith(".gguf") and is_distilled(_local_path(draft))


def load_draft_for(
    target: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    draft: str,
    device: torch.device,
    weights: str | None = None,
) -> tuple[PreTrainedModel, Translation | None]:
    """The draft of that name and weights (see `load_pair`) for a target, and how it is understood
    if its tokenizer is another.

    target: with plain or quantised (not packed) linear layers; it shares weights with a draft that
        is made from it.
    """
    if draft == "self" or draft.startswith("self:"):
        if weights is not None:
            raise ValueError(f"draft_weights: expected None for {draft}, got {weights}")
        if draft == "self":
            return target, None
        return quantized_copy(_on(device, target), draft.removeprefix("self:")), None
    folder = None if draft.endswith(".gguf") else _local_path(draft)
    if folder is not None and is_distilled(folder):
        with loading("draft", draft):
            return _distilled_draft(folder, target, device, weights), None
    model, draft_tokenizer = load_model("draft", draft, device, target.dtype, weights)
    return model, _understood(tokenizer, draft_tokenizer, model)


def _on(device: torch.device, model: PreTrainedModel) -> PreTrainedModel:
    """The model on a device: itself, or a copy."""
    home, moving = model.device, cast("Any", model)  # to() is not typed as what it returns
    if home == device:
        return model
    copied: PreTrainedModel = copy.deepcopy(moving.to(device))
    moving.to(home)
    return copied


def _distilled_draft(
    folder: Path, target: PreTrainedModel, device: torch.device, weights: str | None
) -> PreTrainedModel:
    if weights is None and device.type == "cpu" and stored_bits(folder) == 8:
        weights = "q8"
    return load_draft(folder, target, device, WEIGHTS.get(weights or PLAIN))


def eos_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """As the model's generation config lists them, which is where `generate` ends a text."""
    config = model.generation_config
    eos = tokenizer.eos_token_id if config is None else config.eos_token_id
    if eos is None:
        return frozenset()
    return frozenset([eos] if isinstance(eos, int) else eos)


def lay_out_weights(*models: PreTrainedModel, borrowed: Sequence[torch.Tensor] = ()) -> None:
    """Let weights on a CPU lie as forwards read them, in place; `load_pair` does.

    borrowed: tensors of the models that are somebody else's, and stay where they are.
    """
    for model in models:
        if model.device.type == "cpu":
            pack_linears(model, borrowed)
    move_to_huge_pages(models, borrowed)


def _check_weights(name: str, weights: str | None, device: torch.device) -> None:
    if weights not in (None, PLAIN, *WEIGHTS):
        raise ValueError(f"{name}: expected {', '.join(WEIGHTS)}, {PLAIN} or None, got {weights!r}")
    if weights in WEIGHTS and device.type != "cpu":
        raise ValueError(f"{name}: {weights} is multiplied on cpu only, got device {device}")


def _gguf_file(name: str, weights: str | None) -> Path | None:
    """The file that a model is read from, if it is a GGUF."""
    if name.startswith("builtin:") and weights in WEIGHTS:
        return builtin_gguf(name.removeprefix("builtin:"))
    return Path(name) if name.endswith(".gguf") else None


def _local_path(name: str) -> Path:
    """The folder that a name means if it means one."""
    if name.startswith("builtin:"):
        return builtin_folder(name.removeprefix("builtin:"))
    return Path(name)


def load_model(
    role: str,
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    weights: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load one model, check that we can run it, and load its tokenizer.

    role: what messages call it. weights: see `load_pair`. Raises ValueError for a model that cannot
    be found or run, or that cannot have such weights.
    """
    gguf = _gguf_file(name, weights)
    source = _local_path(name) if name.startswith("builtin:") and gguf is None else name
    with loading(role, name):
        if gguf is not None:
            model, tokenizer = read_gguf(gguf, dtype, device.type == "cpu" and weights != PLAIN)
        else:
            model, tokenizer = read_folder(source, dtype, device)
        kv_shape(model)
    if weights in WEIGHTS:
        quantize_model(model, WEIGHTS[weights])
    if not tokenizer.is_fast:
        raise ValueError(f"{role}: expected a fast tokenizer, got {type(tokenizer).__name__}")
    on_device: Any = model
    return on_device.to(device).eval().requires_grad_(False), tokenizer


def _understood(
    target: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase, draft: PreTrainedModel
) -> Translation | None:
    """Let a draft's logits be of the target's tokens, as far as there are such.

    Tokenizers that differ in added tokens, or in size, share the ids that name one token; the
    columns of others go. Of any other tokenizer only the text is understood.
    """
    ours, theirs = target.get_vocab(), tokenizer.get_vocab()
    if ours == theirs:
        return None
    head: Any = draft.get_output_embeddings()
    if _is_part_of_one(target, tokenizer):
        shared = sorted(ours.items() & theirs.items(), key=itemgetter(1))
        ids = [token for _, token in shared if token < head.out_features]
        if ids != list(range(head.out_features)):
            narrow_draft(draft, ids, ids)
        return None
    translation = Translation.between(target, tokenizer, head.out_features)
    narrow_draft(draft, translation.columns, translation.first_tokens)
    return translation


def _is_part_of_one(a: PreTrainedTokenizerBase, b: PreTrainedTokenizerBase) -> bool:
    """Whether ids that both have name the same token, but for those that one of them has added."""
    added = {*a.added_tokens_decoder, *b.added_tokens_decoder}
    names = {token: name for name, token in a.get_vocab().items() if token not in added}
    others = {token: name for name, token in b.get_vocab().items() if token not in added}
    both = names.keys() & others.keys()
    return bool(both) and all(names[token] == others[token] for token in both)
