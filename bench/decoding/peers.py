"""Other implementations on the same weights, threads, dtype and prompts, where they can run.

`transformers` runs the models as its users load them, its linear layers as they are. All of them
run on the thread that loaded the models and have all cores. The assistant is the draft that our
methods use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from bench import llama
from bench.decoding.answer import Answer, Answerer, Arrivals, of_bursts
from bench.openmp import release_team
from specbranch.lanes import Lane
from specbranch.loading.pair import ModelPair, load_draft_for, load_model
from specbranch.sampling import SamplingParams

LOOKUP_TOKENS = 10


@dataclass(frozen=True, slots=True)
class Peers:
    """contenders: those that can run here. about: what each one is, or why it is absent."""

    contenders: dict[str, Answerer] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)


class Absent(Exception):
    """Why a peer cannot take part."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What peers are made from. plain: the target as transformers loads it. max_len: tokens of
    prompt and output together, at most."""

    pair: ModelPair
    plain: PreTrainedModel
    max_len: int


def load_peers(
    pair: ModelPair, names: Sequence[str], lanes: Collection[Lane], max_len: int
) -> Peers:
    """The peers of these names on the pair's weights.

    names: keys of `PEERS`. lanes: of our engines, which are idle while a peer answers. max_len:
    tokens of prompt and output together, at most.
    """
    peers = Peers()
    if not names:
        return peers
    plain, _ = load_model("target", pair.target_name, pair.device, pair.dtype)
    plain.generation_config = GenerationConfig()
    setting = Setting(pair, plain, max_len)
    for name in names:
        try:
            answer, peers.about[name] = PEERS[name](setting)
            peers.contenders[name] = _alone(answer, lanes)
        except Absent as reason:
            peers.about[name] = f"absent: {reason}"
    return peers


def _alone(answer: Answerer, lanes: Collection[Lane]) -> Answerer:
    """With no OpenMP threads in the process but its own."""

    def alone(prompt: list[int], params: SamplingParams) -> Answer:
        for lane in lanes:
            lane.run("release", release_team)
        try:
            return answer(prompt, params)
        finally:
            release_team()

    return alone


class _Bursts(BaseStreamer):
    """Notes when tokens come; the first that a streamer is given is the prompt."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._prompt_seen = False

    def put(self, value: Tensor) -> None:
        if self._prompt_seen:
            self._arrivals.note(value.numel())
        self._prompt_seen = True

    def end(self) -> None:
        pass


def _generate(
    model: PreTrainedModel,
    options: Mapping[str, Any],
    eos: frozenset[int],
    prompt: list[int],
    params: SamplingParams,
) -> Answer:
    """A request to transformers."""
    torch.manual_seed(params.seed)
    ids = torch.tensor([prompt], device=model.device)
    sampled = params.temperature > 0
    filters = {"temperature": params.temperature, "top_k": params.top_k, "top_p": params.top_p}
    # What a model ships besides would make it another law: `load_peers` took it off.
    law = GenerationConfig(
        do_sample=sampled,
        max_new_tokens=params.max_new_tokens,
        eos_token_id=sorted(eos),
        pad_token_id=min(eos, default=0),
        **(filters if sampled else {}),
    )
    arrivals = Arrivals()
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        generation_config=law,
        streamer=_Bursts(arrivals),
        **options,
    )
    return of_bursts(output[0, len(prompt) :].tolist(), arrivals)


def _of_transformers(setting: Setting, **options: Any) -> Answerer:
    return partial(_generate, setting.plain, options, setting.pair.eos_token_ids)


def _transformers(setting: Setting) -> tuple[Answerer, str]:
    return _of_transformers(setting), f"`generate` of transformers {version('transformers')}"


def _assisted(setting: Setting) -> tuple[Answerer, str]:
    pair = setting.pair
    pair.require_shared_ids("to assist `generate`")
    draft, _ = load_draft_for(setting.plain, pair.tokenizer, pair.draft_name, pair.draft.device)
    if getattr(draft, "token_ids", None) is not None:
        raise Absent("the draft knows some of the target's tokens only")
    draft.generation_config = GenerationConfig()
    about = f"`generate(assistant_model=...)`, the assistant being {pair.draft_name}"
    return _of_transformers(setting, assistant_model=draft), about


def _require_llama() -> None:
    if not llama.is_installed():
        raise Absent("llama-cpp-python is not installed")


def _llama_cpp(
    setting: Setting, file_type: str | None = None, **options: Any
) -> tuple[Answerer, str]:
    """On the target's file, as it is or in another type."""
    _require_llama()
    import llama_cpp

    try:
        path = llama.gguf_of(setting.pair.target_name)
    except ValueError as error:
        raise Absent(str(error)) from error
    if file_type is not None:
        path = llama.in_format(path, file_type)
    layers = 0 if setting.pair.device.type == "cpu" else -1
    loaded = llama.load(
        path, len(os.sched_getaffinity(0)), setting.max_len, n_gpu_layers=layers, **options
    )
    about = f"llama-cpp-python {llama_cpp.__version__} on {path.name}"
    return partial(_llama_answer, loaded, setting.pair.eos_token_ids), about


def _llama_lookup(setting: Setting) -> tuple[Answerer, str]:
    _require_llama()
    from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

    lookup = LlamaPromptLookupDecoding(num_pred_tokens=LOOKUP_TOKENS)
    answerer, about = _llama_cpp(setting, "Q4_0", draft_model=lookup, logits_all=True)
    return answerer, f"{about}, with its `LlamaPromptLookupDecoding({LOOKUP_TOKENS})`"


def _llama_answer(
    loaded: Any, eos: frozenset[int], prompt: list[int], params: SamplingParams
) -> Answer:
    loaded.set_seed(params.seed)
    loaded.reset()  # else it keeps what this prompt begins with in common with the one before
    arrivals, tokens = Arrivals(), []
    for token in loaded.generate(
        prompt,
        temp=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        repeat_penalty=1.0,
    ):
        arrivals.note(1)
        tokens.append(token)
        if token in eos or len(tokens) == params.max_new_tokens:
            break
    return of_bursts(tokens, arrivals)


PEERS: dict[str, Callable[[Setting], tuple[Answerer, str]]] = {
    "transformers": _transformers,
    "assisted": _assisted,
    "llama.cpp": _llama_cpp,
    "llama.cpp-q4_0": partial(_llama_cpp, file_type="Q4_0"),
    "llama.cpp-f32": partial(_llama_cpp, file_type="F32"),
    "llama.cpp-lookup": _llama_lookup,
}
