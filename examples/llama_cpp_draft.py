"""Our branches as the draft model of llama-cpp-python: it decodes, they guess meanwhile."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch
from llama_cpp import Llama
from llama_cpp.llama_speculative import LlamaDraftModel

from specbranch.drafting import Chain, ThreadedDrafter
from specbranch.drafting.opening import open_draft, open_lane, open_source
from specbranch.lanes.threads import usable_cores
from specbranch.loading.builtin import builtin_gguf

CPU = torch.device("cpu")


class BranchDraft(LlamaDraftModel):
    """Drafts in a thread of its own, for one text at a time.

    target, draft: what llama.cpp runs, as `load_pair` takes it, and what guesses for it.
    tokens: of a guess, at most. max_len: of a text.
    """

    def __init__(self, target: str, draft: str, vocab_size: int, tokens=5, max_len=2048) -> None:
        sizes = {"vocab_size": vocab_size, "max_len": max_len, "max_nodes": 64, "fan": 16}
        loaded = open_draft(target, draft, CPU, torch.float32)
        source, _, self.max_len = open_source(loaded, max_texts=1, **sizes)
        self.lane = open_lane(CPU, usable_cores()[-1:])
        self.drafter = ThreadedDrafter(source, self.lane, Chain(tokens), max_len=self.max_len)
        self.text, self.known = None, []

    def __call__(self, input_ids, /, **_) -> np.ndarray:
        ids = input_ids[: self.max_len].tolist()
        new = ids[len(self.known) :]
        if self.text is None or ids[: len(self.known)] != self.known:
            if self.text:
                self.drafter.end(self.text)
            self.text, new = self.drafter.begin(ids), []
        self.known = ids
        (answer,) = self.drafter.propose({self.text: new})
        return np.array(answer.tokens, np.intc)

    def close(self) -> None:
        self.drafter.close()
        self.lane.close()


if __name__ == "__main__":
    options = {"n_ctx": 512, "n_threads": 1, "n_threads_batch": 1, "verbose": False}
    plain = Llama(str(builtin_gguf("smollm2")), **options)
    draft = BranchDraft("builtin:smollm2", "self:int4", plain.n_vocab())
    sooner = Llama(plain.model_path, **options, draft_model=draft)
    for ids in map(plain.tokenize, (b"The capital of France is", b"def fibonacci(n):\n    ")):
        texts = [list(islice(each.generate(ids, temp=0.0), 40)) for each in (plain, sooner)]
        print(f"{plain.detokenize(texts[1]).decode()}\nsame as alone: {texts[0] == texts[1]}")
    print(f"{draft.drafter.counts.hits} of {draft.drafter.counts.walks} outcomes were guessed")
    draft.close()
