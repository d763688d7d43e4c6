"""The text itself as a source: what followed its suffix before may follow it again."""

from __future__ import annotations

from collections.abc import Sequence

from specbranch.checks import require_positive
from specbranch.lanes import Lane
from specbranch.request import Request
from specbranch.sources.source import Guesses, Source, Wanted
from specbranch.sources.suffixes import Calibration, Suffixes

CHAIN = 16  # nodes that hang below a root as a chain, at most
SURE = 0.5  # chance that each of them has at least


class NGramText:
    """A request's prompt and output, and what its output taught about its repetitions."""

    def __init__(self, max_n: int, fan: int) -> None:
        self._suffixes = Suffixes(max_n)
        self._calibration = Calibration()
        self._fan = fan

    def follow(self, request: Request) -> None:
        """Take in what was committed since the last time."""
        for place in range(len(self._suffixes), len(request.committed)):
            token = request.committed[place]
            if place >= len(request.prompt):
                self._calibration.learn(self._suffixes.candidates((), self._fan), token)
            self._suffixes.append(token)

    def guess(self, path: Sequence[int], count: int) -> tuple[list[int], list[float]]:
        """Up to `count` tokens that may follow the text and the path, that of the longest suffix
        first, and the chance of each."""
        candidates = self._suffixes.candidates(path, count)
        return [each.token for each in candidates], self._calibration.chances(candidates)


class NGramSource(Source):
    """Continuations of the longest suffix of prompt and output that occurred before.

    There is no forward, and no lane works. It draws nothing: under either coupling its guesses are
    matched children.

    max_n: tokens of a suffix, at most. fan: guesses of a node, at most.
    max_nodes: of a request that it can have expanded at a time.
    """

    takes_cores = False

    def __init__(self, max_n: int = 5, fan: int = 4, max_nodes: int = 128) -> None:
        require_positive(max_n=max_n, fan=fan, max_nodes=max_nodes)
        self.max_nodes = max_nodes
        self._max_n = max_n
        self._fan = fan
        self._texts: dict[Request, NGramText] = {}

    def begin(self, request: Request) -> None:
        self._texts[request] = NGramText(self._max_n, self._fan)

    def end(self, request: Request) -> None:
        del self._texts[request]

    def match(self, request: Request, node: int) -> None:
        """Let guesses hang below a node, whoever else guesses there."""
        text, tree = self._texts[request], request.tree
        text.follow(request)
        tree.match(node, *text.guess(tree.tokens(tree.path(node)), self._fan))

    def match_chain(self, request: Request) -> None:
        """Let what the text is sure of hang below the root, node below node."""
        text, tree = self._texts[request], request.tree
        text.follow(request)
        node = 0
        path: list[int] = []
        while len(path) < CHAIN and not tree.terminal[node]:
            token, chance = text.guess(path, 1)
            if not token or chance[0] < SURE:
                return
            (node,) = tree.match(node, token, chance)
            path += token

    def guess(self, lane: Lane, wanted: Sequence[Wanted], steps: int) -> Guesses:
        chances = []
        for request, nodes in wanted:
            text, tree = self._texts[request], request.tree
            text.follow(request)
            for node in nodes:
                told = text.guess(tree.tokens(tree.path(node)), self._fan)
                chances.append(dict(zip(*told, strict=True)))
        return Guesses.of(chances, self._fan)
