"""A proposer for vLLM: `speculative_config={"method": "custom_class", "model":
"specbranch.adapters.vllm.Proposer", "num_speculative_tokens": K}`.

vLLM decides everything about its requests; this drafts for the texts that it writes. Its options
are in `additional_config={"specbranch": {...}}`, see `Options`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from specbranch.adapters.texts import Texts
from specbranch.adapters.vllm_options import Options
from specbranch.drafting import Chain, Drafter, SteppedDrafter, ThreadedDrafter
from specbranch.drafting.opening import open_draft, open_lane, open_source
from specbranch.lanes.threads import usable_cores
from specbranch.sources.ngram import NGramSource
from specbranch.sources.source import Source

log = logging.getLogger("vllm.specbranch")

Ints = np.ndarray[Any, Any]


class Proposer:
    """What vLLM asks for drafts, after every forward of its target.

    vllm_config: vLLM's own.
    Raises ValueError, naming it, for an option that cannot be.
    """

    def __init__(self, vllm_config: Any) -> None:
        self._options = Options.of(vllm_config.additional_config)
        self._config = vllm_config
        self._drafter: Drafter | None = None
        self._texts = Texts(0)

    def load_model(self, target_model: object = None) -> None:
        """Load the draft. Of a target in several parts the first one's drafts count, and it alone
        drafts.

        target_model: vLLM's, which is of no use here.
        """
        parallel = self._config.parallel_config
        if parallel.rank % parallel.tensor_parallel_size == 0:
            self._open()

    def propose(
        self,
        sampled_token_ids: Sequence[Sequence[int]],
        num_tokens_no_spec: Ints,
        token_ids_cpu: Ints,
        slot_mappings: object = None,
    ) -> list[list[int]]:
        """Draft tokens of each row of vLLM's batch.

        sampled_token_ids: what was committed in each row just now, nothing where a prompt is still
            being read. num_tokens_no_spec [rows]: tokens that each row has, those included, at its
            beginning in token_ids_cpu int32 [rows, max_model_len].
        """
        answers: list[list[int]] = [[] for _ in sampled_token_ids]
        drafter = self._drafter
        if drafter is None:
            return answers
        rows = {
            row: (token_ids_cpu[row, : num_tokens_no_spec[row]], sampled)
            for row, sampled in enumerate(sampled_token_ids)
            if sampled and num_tokens_no_spec[row] < drafter.max_len
        }
        try:
            found = self._texts.follow(drafter, rows)
            news = dict(found.values())
            said = dict(zip(news, drafter.propose(news), strict=True))
        except Exception:
            log.exception("drafting failed; decoding goes on without drafts")
            self._drafter = None
            return answers
        for row, (text, _) in found.items():
            answers[row] = said[text].tokens
        return answers

    def report(self) -> Mapping[str, int]:
        """What was drafted so far: see `specbranch.drafting.Counts`. Empty where nothing drafts."""
        counts = self._drafter.counts if self._drafter else None
        return {name: getattr(counts, name) for name in counts.__slots__} if counts else {}

    def _open(self) -> None:
        config, options = self._config, self._options
        model = config.model_config
        device = torch.device(options.draft_device or config.device_config.device_type)
        max_texts = options.max_texts or config.scheduler_config.max_num_seqs
        max_len: int = model.max_model_len
        ngrams = NGramSource(fan=min(4, options.fan), max_nodes=options.max_nodes)
        source: Source = ngrams
        if options.draft is not None and options.uses_model:
            dtype = getattr(torch, options.draft_dtype) if options.draft_dtype else model.dtype
            draft = open_draft(model.model, options.draft, device, dtype, options.draft_weights)
            source, max_texts, max_len = open_source(
                draft,
                vocab_size=model.get_vocab_size(),
                max_len=max_len,
                max_texts=max_texts,
                max_nodes=options.max_nodes,
                fan=options.fan,
            )
        cores = options.cores or usable_cores()
        lane = open_lane(device, options.cores or cores[len(cores) // 2 :])
        form = Chain(config.speculative_config.num_speculative_tokens, options.least)
        sizes: dict[str, Any] = {
            "max_len": max_len,
            "rows": options.rows,
            "fan": options.fan,
            "ngrams": ngrams if options.source == "model+ngram" else None,
        }
        if options.steps:
            self._drafter = SteppedDrafter(source, lane, form, steps=options.steps, **sizes)
        else:
            self._drafter = ThreadedDrafter(source, lane, form, **sizes)
        self._texts = Texts(max_texts)
        log.info("drafting by %s for %d texts at most", options.draft or "n-grams", max_texts)
