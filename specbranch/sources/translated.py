"""A draft model with another tokenizer as a source: text leads from its tokens to the target's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

import torch

from specbranch.lanes import Lane
from specbranch.models.runner import ModelRunner
from specbranch.models.transfers import sent
from specbranch.request import Request
from specbranch.sources.drafted import DraftedText, Node, Said
from specbranch.sources.ranking import RankedRows, Ranker
from specbranch.sources.source import Guesses, Source, Wanted
from specbranch.trace import Label
from specbranch.vocabulary import Translation

AHEAD = 4  # tokens that the draft adds at a node, at most, to see where the target's token ends


class Place(NamedTuple):
    """Where a guess is wanted: behind this text, at or inside a node of the draft's tree."""

    text: DraftedText
    before: bytes  # from the root of the draft's tree
    slot: int  # -1 where the draft has no room


class TranslatedSource(Source):
    """Runs the draft on the text in its own tokens.

    The first guess is the longest token of the target's that the draft's likeliest continuation
    begins with, the others those that begin what else it says. They are matched children under
    either coupling. What the draft has computed is found again by its text.

    runner: the draft, whose head has the translation's columns. max_fan: guesses of a node.
    """

    def __init__(self, runner: ModelRunner, max_fan: int, translation: Translation) -> None:
        self.max_nodes = runner.max_nodes
        self._runner = runner
        self._fan = max_fan
        self._translation = translation
        max_rows = runner.max_requests * runner.max_nodes
        self._ranker = Ranker(max_rows, max_fan, runner.device, runner.token_ids)
        self._texts: dict[Request, DraftedText] = {}

    def has_room(self, request: Request) -> bool:
        return self._runner.has_room(request.max_len)

    def begin(self, request: Request) -> None:
        runner = self._runner
        most = max(1, min(request.max_len, runner.max_positions - runner.max_nodes))
        tokens = self._translation.prompt(request.prompt)[-most:]
        request.draft = runner.open(request.max_len, tokens[:-1])
        text = DraftedText(tokens, request.draft, most, len(request.prompt), self._translation)
        self._texts[request] = text

    def end(self, request: Request) -> None:
        del self._texts[request]
        self._runner.close(request.draft)

    def read(self, lane: Lane, request: Request) -> bool:
        text = self._texts[request]
        text.settle()
        if not text.is_read:
            before = text.tokens[:-1]
            lane.run(Label.PREFILL, lambda: self._runner.read_chunk(request.draft, before))
        return text.is_read

    def guess(self, lane: Lane, wanted: Sequence[Wanted], steps: int) -> Guesses:
        requests = [request for request, _ in wanted]
        places = [self._place(request, node) for request, nodes in wanted for node in nodes]
        self._compute(lane, requests)
        for _ in range(AHEAD):
            if not sum(self._extend(place) for place in places):
                break
            self._compute(lane, requests)
        return Guesses.of([self._answer(place) for place in places], self._fan)

    def keep(self, lane: Lane, kept: Sequence[tuple[Request, Sequence[int], int]]) -> None:
        follow = [self._texts[request].follow(request.committed) for request, _, _ in kept]
        if batch := [keep for keep in follow if keep]:
            lane.run(Label.COMMIT, lambda: self._runner.keep(batch))

    def _place(self, request: Request, node: int) -> Place:
        text, tree = self._texts[request], request.tree
        path = tree.tokens(tree.path(node))
        before = text.pending + self._translation.target.text(path)
        return Place(text, before, text.reach(before) if text.is_read else -1)

    def _extend(self, place: Place) -> bool:
        """Let the draft go on where a token that it lacks may be what it is about to spell."""
        text, before, slot = place
        if slot < 0:
            return False
        tip = text.line(slot)[-1]
        after = text.nodes[tip].text[len(before) :]
        return (not after or self._translation.target_only.has_longer(after)) and text.extend(tip)

    def _answer(self, place: Place) -> dict[int, float]:
        """The target's tokens that may come, best first, and their chances."""
        text, before, slot = place
        if slot < 0:
            return {}
        target, line = self._translation.target, [text.nodes[at] for at in text.line(slot)]
        token = target.longest(line[-1].text[len(before) :])
        if token < 0:
            return {}
        end = len(before) + len(target.texts[token])
        told = [node.said for node in line if node.said and len(node.text) < end]
        chance = prod(next(iter(said.guesses.values())) for said in told)
        at_place = line[0].said if line[0].text == before else None
        others = at_place.guesses if at_place else {}
        return {token: chance} | {other: each for other, each in others.items() if other != token}

    def _compute(self, lane: Lane, requests: Sequence[Request]) -> None:
        """Have the draft say what follows the new nodes of its trees."""
        texts = [self._texts[request] for request in requests]
        batch = [text.rows() for text in texts if text.lacks]
        if not batch:
            return
        ranked, positions, nodes = [], [], []
        for request, text in zip(requests, texts, strict=True):
            new = text.lacks
            ranked.append(_ranked(request, len(new)))
            positions += [len(request.committed) + text.num_beyond(node) for node in new]
            nodes += new

        def work() -> None:
            logits = self._runner.forward(batch)
            self._ranker.prepare(ranked)
            at = sent(positions, logits.device).int()
            self._ranker.rank(logits, at, "gumbel", 0)
            self._note(nodes, logits)

        lane.run(Label.DRAFT, work, rows=len(nodes))

    def _note(self, nodes: Sequence[Node], logits: torch.Tensor) -> None:
        """A ranked token of the target's may begin several columns: the first is the likeliest."""
        token_ids, columns = self._runner.token_ids, self._translation.columns
        assert token_ids is not None
        best = self._ranker.first_choices(0, len(nodes))
        others = token_ids[None] != best[:, None]
        firsts = logits.masked_fill(others, -torch.inf).argmax(-1).tolist()
        guesses = self._ranker.fetch(len(nodes))
        for row, (node, first) in enumerate(zip(nodes, firsts, strict=True)):
            chances: dict[int, float] = {}
            for token, chance in zip(guesses.ids[row], guesses.estimates[row], strict=True):
                if token >= 0:
                    chances[int(token)] = chances.get(int(token), 0.0) + float(chance)
            node.said = Said(columns[first] if chances else -1, chances)


def _ranked(request: Request, count: int) -> RankedRows:
    """How a request's rows are ranked: likeliest first where the target draws with other noise."""
    params = request.params
    if params.effective_coupling == "rejection":
        params = replace(params, temperature=0.0)
    return RankedRows(params, [params.seed] * count)
