"""Running a pair on prompts to learn when the target accepts what the draft guesses."""

from __future__ import annotations

from dataclasses import asdict

import torch

from specbranch.engine import Engine
from specbranch.hrad.features import FEATURE_LAYERS, text_features, with_embedding
from specbranch.models.runner import ModelRunner
from specbranch.prompts import PromptRecord
from specbranch.replay import DraftLaws, DraftModel, LawStore, record
from specbranch.sampling import SamplingParams
from specbranch.training.hrad.collection import PromptExamples, Settings
from specbranch.training.hrad.examples import next_blocks

SHAPES_THE_TEXT = ("temperature", "top_k", "top_p", "min_p", "seed", "max_new_tokens", "ignore_eos")


class Collector:
    """Turns prompts into examples: decoding writes the text, then each model reads it once.

    engine: of the pair, with any policy; it writes the same text with each, sooner with some.
    gamma: guesses of a block.
    Raises ValueError for parameters under which the text depends on the policy, see `record`.
    """

    def __init__(self, engine: Engine, params: SamplingParams, gamma: int) -> None:
        pair = engine.pair
        pair.require_shared_ids("to collect examples for H-RAD")
        self._engine = engine
        self._params = params
        self._gamma = gamma
        self._target = ModelRunner(
            pair.target, max_len=engine.max_len, max_nodes=128, feature_layers=FEATURE_LAYERS
        )
        # Room for every chain of every place, so that each law is computed once.
        drafting = ModelRunner(
            pair.draft, max_len=engine.max_len, max_nodes=params.max_new_tokens * gamma
        )
        self._draft = DraftModel(drafting, self._target.vocab_size)

    @property
    def settings(self) -> Settings:
        pair, params = self._engine.pair, asdict(self._params)
        return Settings(
            target=pair.target_name,
            draft=pair.draft_name,
            dtype=str(pair.dtype).removeprefix("torch."),
            gamma=self._gamma,
            feature_layers=FEATURE_LAYERS,
            hidden_size=pair.target.config.get_text_config(decoder=True).hidden_size,
            sampling={name: params[name] for name in SHAPES_THE_TEXT},
        )

    def examples(self, prompt: PromptRecord) -> PromptExamples:
        """The examples of one prompt's text, none if it is no longer than a block."""
        recording = record(self._engine, prompt.prompt, self._params)
        laws = DraftLaws(lambda: self._draft, recording, LawStore())
        blocks = next_blocks(laws, recording, self._gamma)
        roots = recording.text[: len(blocks.accepted)]
        features = text_features(self._target, recording.prompt, recording.text)[: len(roots)]
        return PromptExamples(
            inputs=with_embedding(self._engine.pair.target, features, roots),
            accepted=torch.tensor(blocks.accepted, dtype=torch.int64),
            block=torch.tensor(blocks.laws).reshape(len(roots), self._gamma, 2),
            category=prompt.category or "",
        )
