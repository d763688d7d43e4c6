"""The target's side: one forward over all requests' submitted rows, one verdict about each tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from itertools import accumulate, groupby
from typing import Protocol

import torch
from torch import Tensor

from specbranch import ops
from specbranch.hrad.features import surviving_block
from specbranch.hrad.model import HRad
from specbranch.lanes import Lane, LaneError, Pending
from specbranch.logprobs import token_logprobs
from specbranch.models.block import BlockRows, Keep
from specbranch.models.runner import ModelRunner, chunk_end
from specbranch.models.sampling_rows import SamplingRows
from specbranch.models.scratch import Scratch
from specbranch.models.transfers import VIEWS, DownloadRecord, UploadRecord, sent
from specbranch.policies.base import Outlook
from specbranch.request import Request
from specbranch.rules import Columns, under_rules
from specbranch.trace import Label
from specbranch.tree import Walk, write_questions

_Trees = tuple[Tensor, Tensor, Tensor, Tensor]
_Verdicts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def undecided(position: int) -> FloatingPointError:
    """What is wrong with logits of status != 0."""
    return FloatingPointError(
        f"the target's logits after position {position} are NaN or rule out every token"
    )


class Target(Protocol):
    """Who decides. All requests of a call are distinct; a round goes submit, verify, keep.

    max_rows: submitted nodes of a request, at most. vocab_size: of its tokens.
    """

    max_rows: int
    vocab_size: int

    def has_room(self, request: Request) -> bool:
        """Whether `begin` would find room for a request now."""
        ...

    def begin(self, request: Request) -> None:
        """Take a request in. Raises ValueError where there is no room."""
        ...

    def read(self, request: Request) -> bool:
        """Start to read the next chunk of what comes before the prompt's last token, as
        `Request.reading`, if any is left. Returns whether nothing is left after it."""
        ...

    def end(self, request: Request) -> None:
        """Let a request go."""
        ...

    def submit(self, requests: Sequence[Request]) -> Pending[Tensor]:
        """Start the forward over all submitted nodes; logits [T, V] to come."""
        ...

    def verify(self, requests: Sequence[Request], logits: Tensor) -> list[Walk | None]:
        """Walk down each tree from its root as the target decides. A request for which it decides
        nothing fails; its walk is None."""
        ...

    def outlooks(
        self, requests: Sequence[Request], walks: Sequence[Walk | None]
    ) -> list[Outlook | None]:
        """What is to be expected below each walk's next token, None without H-RAD and where the
        request has ended."""
        ...

    def keep(self, requests: Sequence[Request], walks: Sequence[Walk]) -> Pending[None]:
        """Make the walks' paths context and roll every other row back, in place."""
        ...


class Verifier:
    """Runs the target model on its lane; a `Target`.

    hrad: looks ahead after each walk. hidden_layers: a source reads so many. The runner has as many
        feature layers as either wants.
    """

    def __init__(
        self, runner: ModelRunner, lane: Lane, hrad: HRad | None = None, hidden_layers: int = 0
    ) -> None:
        self.max_rows = runner.max_nodes
        self.vocab_size = runner.vocab_size
        self._runner = runner
        self._lane = lane
        self._hrad = hrad
        self._hidden_layers = hidden_layers
        self._scratch = Scratch(runner.device)
        self._sampling = SamplingRows(runner.max_requests, runner.device)
        self._columns = Columns(runner.vocab_size)
        self._reserve(64)

    def has_room(self, request: Request) -> bool:
        return self._runner.has_room(request.max_len)

    def begin(self, request: Request) -> None:
        request.target = self._runner.open(request.max_len, request.prompt[:-1])

    def read(self, request: Request) -> bool:
        block, prompt = request.target, request.prompt[:-1]
        start = block.context_len
        if start < len(prompt):
            request.reading = self._lane.submit(
                Label.PREFILL, lambda: self._runner.read_chunk(block, prompt)
            )
        return chunk_end(start) >= len(prompt)

    def end(self, request: Request) -> None:
        self._runner.close(request.target)

    def submit(self, requests: Sequence[Request]) -> Pending[Tensor]:
        batch = []
        for request in requests:
            tokens, parents = request.tree.rows()
            batch.append(BlockRows(request.target, tokens, parents, len(tokens)))
        rows = sum(len(each.tokens) for each in batch)
        return self._lane.submit(Label.TARGET, lambda: self._runner.forward(batch), rows=rows)

    def verify(self, requests: Sequence[Request], logits: Tensor) -> list[Walk | None]:
        return self._lane.run(Label.VERIFY, lambda: self._walks(requests, logits))

    def outlooks(
        self, requests: Sequence[Request], walks: Sequence[Walk | None]
    ) -> list[Outlook | None]:
        """Reads the features of the latest forward, over these requests' submitted rows."""
        hrad = self._hrad
        if hrad is None:
            return [None] * len(requests)
        gamma = hrad.config.gamma
        walked = zip(requests, walks, _walked(requests, walks), strict=True)
        going_on = [
            (rows[-1], walk.next_token, surviving_block(request.tree, walk.winner, gamma))
            for request, walk, rows in walked
            if walk and not request.finished
        ]
        if not going_on:
            return [None] * len(requests)
        last_rows, tokens, blocks = map(list, zip(*going_on, strict=True))

        def look() -> list[Outlook]:
            features = self._last_layers(hrad.config.feature_layers)
            return hrad.outlooks(features[sent(last_rows, features.device)], tokens, blocks)

        found = iter(self._lane.run(Label.HRAD, look))
        return [None if request.finished else next(found) for request in requests]

    def keep(self, requests: Sequence[Request], walks: Sequence[Walk]) -> Pending[None]:
        batch = [
            Keep(request.target, walk.rows, len(walk.rows))
            for request, walk in zip(requests, walks, strict=True)
        ]
        return self._lane.submit(Label.COMMIT, lambda: self._runner.keep(batch))

    def _walks(self, requests: Sequence[Request], logits: Tensor) -> list[Walk | None]:
        """One `verify_tree` for the requests in line that have the same coupling."""
        walks: list[Walk | None] = []
        submitted = [(request, request.tree.submitted) for request in requests]
        ruled = under_rules(logits, self._columns, submitted)
        start = 0
        for coupling, group in groupby(requests, lambda each: each.params.effective_coupling):
            members = list(group)
            end = start + sum(len(each.tree.submitted) for each in members)
            laws = self._laws(members) if coupling == "rejection" else None
            walks += self._examine(members, ruled[start:end], laws)
            start = end
        if self._hidden_layers:
            self._show(requests, walks)
        return self._with_logprobs(requests, walks, logits)

    def _with_logprobs(
        self, requests: Sequence[Request], walks: list[Walk | None], logits: Tensor
    ) -> list[Walk | None]:
        """The walks, with what the target's own logits say of their tokens where that is wanted."""
        if all(request.params.logprobs is None for request in requests):
            return walks
        told: list[Walk | None] = []
        for request, walk, rows in zip(requests, walks, _walked(requests, walks), strict=True):
            most = request.params.logprobs
            if walk and most is not None:
                tokens = [*request.tree.tokens(walk.path[1:]), walk.next_token]
                at = logits[sent(rows, logits.device)]
                walk = walk._replace(logprobs=token_logprobs(at, tokens, most))
            told.append(walk)
        return told

    def _show(self, requests: Sequence[Request], walks: Sequence[Walk | None]) -> None:
        """Let sources see the hidden rows of the walks."""
        walked = _walked(requests, walks)
        layers = self._last_layers(self._hidden_layers)
        hidden = layers[sent([row for rows in walked for row in rows], layers.device)]
        parts = hidden.split([len(rows) for rows in walked])
        for request, rows in zip(requests, parts, strict=True):
            if len(rows):
                request.hidden = rows
        if hidden.is_cuda:  # another lane may read them at once
            torch.cuda.current_stream(hidden.device).synchronize()

    def _last_layers(self, layers: int) -> Tensor:
        """Outputs [T, layers * hidden] of the target's last layers in the latest forward."""
        features = self._runner.features
        assert features is not None
        return features[:, -layers * features.shape[1] // self._runner.feature_layers :]

    def _laws(self, requests: Sequence[Request]) -> Tensor:
        """The laws [T, V] that submitted nodes' children were drawn from, zero where none were."""
        rows = sum(len(request.tree.submitted) for request in requests)
        device = self._runner.device
        laws = torch.zeros(rows, self.vocab_size, dtype=torch.float32, device=device)
        first_row = 0
        for request in requests:
            submitted = request.tree.submitted
            slots = request.tree.slots(submitted) if request.drawn else []
            for row, slot in enumerate(slots, start=first_row):
                if slot >= 0:
                    laws[row] = request.laws[slot]
            first_row += len(submitted)
        return laws

    def _examine(
        self, requests: Sequence[Request], logits: Tensor, laws: Tensor | None
    ) -> list[Walk | None]:
        n, b = max(request.tree.question_size() for request in requests), len(requests)
        if n > self._max_nodes:
            self._reserve(2 * n)
        self._ask(requests)
        sampling = self._sampling.send(
            (request.params, [request.params.seed]) for request in requests
        )
        trees, position, draw, verdicts = self._part(b, n)
        ops.verify_tree_out(
            *trees,
            logits,
            *sampling,
            position,
            laws,
            None if laws is None else draw,
            None,
            *verdicts,
            self._scratch.of(ops.verify_tree_workspace_size(b, *logits.shape)),
        )
        return self._read(requests)

    def _ask(self, requests: Sequence[Request]) -> None:
        host = self._questions.host()
        trees = [request.tree for request in requests]
        b = len(trees)
        write_questions(trees, host["candidates"], host["parents"], host["n_nodes"], host["draw"])
        rows = (len(tree.submitted) for tree in trees)
        host["row_indptr"][: b + 1] = list(accumulate(rows, initial=0))
        host["position"][:b] = [request.target.context_len + 1 for request in requests]
        self._questions.send()

    def _read(self, requests: Sequence[Request]) -> list[Walk | None]:
        answers = self._answers.fetch()
        walks: list[Walk | None] = []
        for b, request in enumerate(requests):
            if answers["status"][b]:
                request.fail(
                    LaneError(self._lane.name, Label.VERIFY, undecided(request.target.context_len))
                )
                walks.append(None)
                continue
            rows = answers["path"][b, : answers["path_len"][b]].tolist()
            path, winner = request.tree.answer(rows, int(answers["winner"][b]))
            walks.append(Walk(path, rows, int(answers["next_token"][b]), winner))
        return walks

    def _reserve(self, max_nodes: int) -> None:
        """Make room for trees of so many nodes: submitted ones and their other children."""
        b, device = self._runner.max_requests, self._runner.device
        self._max_nodes = max_nodes
        self._questions = UploadRecord(
            [
                ("row_indptr", "i4", (b + 1,)),
                ("n_nodes", "i4", (b,)),
                ("position", "i4", (b,)),
                ("candidates", "i4", (b, max_nodes)),
                ("parents", "i4", (b, max_nodes)),
                ("draw", "u1", (b, max_nodes)),
            ],
            device,
        )
        self._answers = DownloadRecord(
            [(name, "i4", (b,)) for name in ("path_len", "next_token", "winner", "status")]
            + [("path", "i4", (b, max_nodes))],
            device,
        )
        fields = self._questions.fields, self._answers.fields
        self._part = lru_cache(VIEWS)(partial(_part, *fields))


def _walked(requests: Sequence[Request], walks: Sequence[Walk | None]) -> list[list[int]]:
    """The rows of each walk in the forward over all submitted nodes; none where nothing was
    decided."""
    first_rows = accumulate((len(request.tree.submitted) for request in requests), initial=0)
    return [
        [first + row for row in walk.rows] if walk else []
        for first, walk in zip(first_rows, walks, strict=False)
    ]


def _part(
    asked: Mapping[str, Tensor], answers: Mapping[str, Tensor], b: int, n: int
) -> tuple[_Trees, Tensor, Tensor, _Verdicts]:
    """What `verify_tree` reads of b trees of up to n nodes (trees, positions, draws), and what it
    writes."""
    trees = (
        asked["candidates"][:b, :n],
        asked["parents"][:b, :n],
        asked["n_nodes"][:b],
        asked["row_indptr"][: b + 1],
    )
    verdicts = (
        answers["path"][:b, :n],
        answers["path_len"][:b],
        answers["next_token"][:b],
        answers["winner"][:b],
        answers["status"][:b],
    )
    return trees, asked["position"][:b], asked["draw"][:b, :n], verdicts
