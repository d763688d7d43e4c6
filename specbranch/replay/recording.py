"""A text as plain decoding writes it: what a replay takes the target's decisions from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from specbranch.engine import Engine, Prompt
from specbranch.files import write_whole
from specbranch.rules import rules_of
from specbranch.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class Recording:
    """One request and its text.

    prompt, text: token ids; the text is all that the request committed.
    eos_token_ids: tokens that ended it, if they came.
    """

    prompt: Sequence[int]
    text: Sequence[int]
    params: SamplingParams
    eos_token_ids: frozenset[int]

    def save(self, path: str | Path) -> None:
        """Write the recording as JSON."""
        write_whole(path, json.dumps(asdict(self), default=sorted))

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read what `save` wrote."""
        fields: dict[str, Any] = json.loads(Path(path).read_text())
        params = SamplingParams(**fields["params"] | {"stop": ()})
        ends = frozenset(fields["eos_token_ids"])
        return cls(fields["prompt"], fields["text"], params, ends)


def record(engine: Engine, prompt: Prompt, params: SamplingParams) -> Recording:
    """Generate with any policy: under these rules they all write plain decoding's text.

    Raises ValueError for the rejection coupling, whose decisions depend on the schedule, and for
    stop strings, which a text of tokens alone cannot find again, and for what changes logits as the
    text goes on, which a replay's drafts would not know.
    """
    if params.effective_coupling == "rejection":
        raise ValueError("coupling: expected gumbel or temperature 0, got rejection")
    if params.stop:
        raise ValueError(f"stop: expected none, got {params.stop!r}")
    if rules_of(params, [], [0]) or params.json_schema is not None:
        raise ValueError("penalties, logit_bias, min_new_tokens, json_schema: expected none")
    generation = engine.generate(prompt, params)
    ends = frozenset(params.ends(engine.pair.eos_token_ids))
    return Recording(generation.prompt_token_ids, generation.token_ids, params, ends)
