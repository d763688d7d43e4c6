"""A tiny target, drafts of it that agree more or less, and a tokenizer of single characters."""

from __future__ import annotations

import copy
import itertools
import string
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from specbranch.loading.distilled import cut_draft
from specbranch.loading.pair import ModelPair
from specbranch.loading.prepack import pack_linears
from specbranch.policies import SpecBranch
from specbranch.policies.base import Outcome, Outlook

EOS = 0
VOCAB = ["<eos>", " ", *string.ascii_letters, *string.digits[:10]]  # 64


def tokenizer(vocab_size: int = len(VOCAB)) -> PreTrainedTokenizerFast:
    vocab = {token: index for index, token in enumerate(VOCAB[:vocab_size])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")


def model(
    seed: int = 0,
    vocab_size: int = len(VOCAB),
    sharpness: float = 6.0,
    layers: int = 2,
    heads: int = 4,
) -> LlamaForCausalLM:
    """A random Llama whose next token depends strongly on its context."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    llama = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for weight in llama.parameters():
            if weight.dim() == 2:
                weight.copy_(torch.randn_like(weight) / weight.shape[1] ** 0.5)
        llama.model.embed_tokens.weight.mul_(8)
        llama.lm_head.weight.mul_(sharpness / 2)
    return llama


def noisy(target: LlamaForCausalLM, noise: float) -> LlamaForCausalLM:
    """The target with noise on its weights, relative to their spread: a draft."""
    draft = copy.deepcopy(target)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in draft.parameters():
            if weight.dim() == 2:
                weight.add_(torch.randn_like(weight) * weight.std() * noise)
    return draft


def with_vocabulary(llama: LlamaForCausalLM, vocab_size: int) -> LlamaForCausalLM:
    """The model with fewer tokens, or with more: each of those as likely as the token 64 before."""
    resized = copy.deepcopy(llama)
    known = llama.config.vocab_size
    resized.resize_token_embeddings(vocab_size, mean_resizing=False)
    rows = torch.arange(vocab_size) % known
    with torch.no_grad():
        resized.model.embed_tokens.weight.copy_(llama.model.embed_tokens.weight[rows])
        resized.lm_head.weight.copy_(llama.lm_head.weight[rows])
    return resized


def with_tokens(llama: LlamaForCausalLM, token_ids: Sequence[int]) -> LlamaForCausalLM:
    """The model with a head of these tokens alone, in this order."""
    layers = range(llama.config.num_hidden_layers)
    return cut_draft(llama, layers, torch.tensor(token_ids, dtype=torch.int32)).model


def pair(
    seed: int = 0,
    noise: float = 0.2,
    vocab_size: int = len(VOCAB),
    eos: Sequence[int] = (),
    sharpness: float = 6.0,
    layers: int = 2,
) -> ModelPair:
    target = model(seed, vocab_size, sharpness, layers)
    return ModelPair(
        target=target,
        draft=noisy(target, noise),
        tokenizer=tokenizer(vocab_size),
        target_name=f"tiny:{seed}",
        draft_name=f"tiny:{seed}+{noise}",
        eos_token_ids=frozenset(eos),
    )


def packed(pair: ModelPair) -> ModelPair:
    """The pair with its weights laid out, in place, as `load_pair` does: a forward is one call."""
    pack_linears(pair.target)
    pack_linears(pair.draft)
    return pair


def save_pair(root: Path, chat_template: str | None = None) -> tuple[Path, Path]:
    """Folders of a target and of a draft that often agrees with it."""
    target = model()
    speaker = tokenizer()
    speaker.chat_template = chat_template
    for name, llama in (("target", target), ("draft", noisy(target, 0.2))):
        llama.save_pretrained(root / name)
        speaker.save_pretrained(root / name)
    return root / "target", root / "draft"


class AnyOutlook(SpecBranch):
    """SpecBranch with an H-RAD that expects nothing, something and everything by turns."""

    def begin(self) -> AnyOutlook:
        policy = super().begin()
        policy.outlooks = itertools.cycle([Outlook(1, 0, 0), Outlook(0, 1, 0), Outlook(0, 0, 1)])
        return policy

    def observe(self, outcome: Outcome) -> None:
        super().observe(outcome._replace(outlook=next(self.outlooks)))
