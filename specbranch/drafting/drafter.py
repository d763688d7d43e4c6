"""The drafter: it answers with the branch that came true, and drafts for the next outcomes while
another engine's target works."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from specbranch.checks import require, require_positive
from specbranch.drafting.forms import NOTHING, Ahead, Answer, Form, said
from specbranch.growth import Experience, Forward, Growth
from specbranch.lanes import Lane
from specbranch.request import Request
from specbranch.sampling import SamplingParams
from specbranch.sources.ngram import NGramSource
from specbranch.sources.source import Source
from specbranch.stopping import Transcript
from specbranch.tree import Tree, Walk


class Text:
    """A text that is drafted for.

    policy: the request's. told: committed tokens that its tree does not follow yet.
    ready: whether the draft has read it, or need not.
    """

    def __init__(self, request: Request, policy: Ahead, ready: bool) -> None:
        self.request = request
        self.policy = policy
        self.told: list[int] = []
        self.ready = ready

    @property
    def tree(self) -> Tree:
        """Its root is the last token before those told."""
        return self.request.tree


@dataclass(slots=True)
class Counts:
    """What a drafter has done.

    walks: texts that went on. hits: those whose tree had all that was committed.
    waits: answers that draft steps were made for, the target waiting. steps: draft steps.
    """

    walks: int = 0
    hits: int = 0
    waits: int = 0
    steps: int = 0


class Drafter(ABC):
    """Guesses for texts that another engine decodes, greedily or not.

    Whoever drives it calls from one thread: `begin` for a new text, `propose` whenever tokens were
    committed, `end`. An answer comes from the branch that came true, without waiting for the draft.
    Where there is no such branch, the draft makes a few steps first, as long as they are worth the
    target's time; the prompt of a new text is read while the target works.
    A text is whatever was committed, so that it does not matter how: that the engine preempts a
    request, reads it again or takes it from a cache is no concern of the drafter's.

    source: who guesses. lane: where it works; the drafter's alone.
    form: what is said of a tree.
    max_len: tokens of a text, at most; there are no guesses beyond.
    ngrams: guesses beside the source. rows, fan: nodes of a text that a step expands, and their
        children, at most.
    counts: of what it has done.
    """

    def __init__(
        self,
        source: Source,
        lane: Lane,
        form: Form,
        *,
        max_len: int,
        ngrams: NGramSource | None = None,
        rows: int = 4,
        fan: int = 16,
    ) -> None:
        require_positive(max_len=max_len)
        self.max_len = max_len
        self.counts = Counts()
        self._form = form
        self._policy = Ahead(form, rows, fan)
        self._growth = Growth(source, lane, Experience(), ngrams)
        self._takes_cores = source.takes_cores
        self._changed = threading.Condition()  # guards what follows, and re-rooting
        self._joining: list[Text] = []
        self._leaving: list[Text] = []
        self._live: Sequence[Text] = ()  # of the latest answers
        self._asked: Sequence[Text] = ()  # had no answer and wait for one
        self._texts: list[Text] = []

    def begin(self, tokens: Sequence[int], ends: Collection[int] = ()) -> Text:
        """Take a text in. Where the draft has no room, it gets no guesses until others end.

        ends: tokens that end it. Raises ValueError for an empty text, or one beyond max_len.
        """
        count = len(tokens)
        require("tokens", f"1 to {self.max_len} of them", count, 1 <= count <= self.max_len)
        params = SamplingParams(max_new_tokens=self.max_len - count)
        transcript = Transcript(None, ends, (), params.max_new_tokens)
        policy = self._policy.begin()
        request = Request(tokens, params, policy, transcript)
        text = Text(request, policy, ready=not self._takes_cores)
        with self._changed:
            self._joining.append(text)
        return text

    def end(self, text: Text) -> None:
        """Let a text go."""
        with self._changed:
            self._leaving.append(text)
            self._live = [each for each in self._live if each is not text]

    def propose(self, news: Mapping[Text, Sequence[int]]) -> list[Answer]:
        """Guesses for texts, in their order.

        news: all texts that the target will work on next, with the tokens that were committed since
            the last time. Drafting goes on for these.
        Raises whatever made drafting fail.
        """
        with self._changed:
            answers = {text: self._tell(text, tokens) for text, tokens in news.items()}
            asked = [text for text, answer in answers.items() if not answer.tokens and text.ready]
            self._live, self._asked = list(news), asked
        if asked:
            self._await_catch_up()
            self.counts.waits += len(asked)
            for text in asked:
                answers[text] = self._answer(text, 0)
        self._go_on()
        return list(answers.values())

    @abstractmethod
    def close(self) -> None:
        """Stop. The lane is its owner's to close."""

    @abstractmethod
    def _await_catch_up(self) -> None:
        """Have `_catch_up` done."""

    @abstractmethod
    def _go_on(self) -> None:
        """Draft for what may come next."""

    @property
    @abstractmethod
    def _cost_ratio(self) -> float:
        """Draft steps that fit beside a target forward."""

    def _tell(self, text: Text, tokens: Sequence[int]) -> Answer:
        text.told += tokens
        path, lost = found(text.tree, text.told)
        if tokens:
            self.counts.walks += 1
            self.counts.hits += not lost
        return NOTHING if lost else self._answer(text, path[-1])

    def _answer(self, text: Text, top: int) -> Answer:
        if text.request.error:
            raise text.request.error
        return NOTHING if text.request.finished else said(text.tree, top, self._form)

    def _catch_up(self) -> None:
        """Follow what was told, and grow for those who have no answer as far as that pays."""
        with self._changed:
            leaving, self._leaving = self._leaving, []
            asked = self._asked
            share = len(asked) / max(1, len(self._live))
        for text in leaving:
            self._part(text)
        self._admit()
        self._follow()
        for text in asked:
            # The others' guesses wait for these.
            text.policy.cost_ratio = self._cost_ratio * share
        self._grow(asked)
        with self._changed:
            if self._asked is asked:  # else others have come, with what was not followed yet
                self._asked = ()
            self._changed.notify_all()

    def _part(self, text: Text) -> None:
        if text in self._texts:
            self._texts.remove(text)
            self._growth.end(text.request)
        with self._changed:
            self._joining = [each for each in self._joining if each is not text]

    def _admit(self) -> None:
        while self._joining and self._growth.has_room(self._joining[0].request):
            with self._changed:
                text = self._joining.pop(0)
            self._growth.begin(text.request)
            self._texts.append(text)

    def _follow(self) -> None:
        """Move the trees' roots to the last committed tokens."""
        with self._changed:
            moved = [(text, list(text.told)) for text in self._texts if text.told]
        requests, walks = [], []
        for text, tokens in moved:
            path, lost = found(text.tree, tokens)
            winner = -1 if lost else path.pop()
            text.request.committed += text.request.transcript.commit(tokens)[0]
            requests.append(text.request)
            walks.append(Walk(path, [], tokens[-1], winner))
        self._growth.keep(requests, walks)
        with self._changed:
            for (text, tokens), walk in zip(moved, walks, strict=True):
                text.tree.reroot(walk.path, walk.winner, walk.next_token)
                text.tree.remaining = text.request.transcript.remaining
                del text.told[: len(tokens)]

    def _unread(self) -> list[Text]:
        return [text for text in self._growing() if not text.ready]

    def _growing(self) -> list[Text]:
        """The texts that guesses are wanted for."""
        live = set(self._live)
        return [text for text in self._texts if text in live and not text.request.finished]

    def _read(self, text: Text) -> None:
        """Let the draft read a chunk."""
        text.ready = self._growth.read(text.request)

    def _grow(self, texts: Sequence[Text], forward: Forward | None = None) -> int:
        """Returns the number of steps."""
        requests = [text.request for text in texts if text in self._texts and text.ready]
        before = [request.stats.draft_forwards for request in requests]
        self._growth.grow([each for each in requests if not each.finished], forward)
        after = [request.stats.draft_forwards for request in requests]
        steps = max((b - a for a, b in zip(before, after, strict=True)), default=0)
        self.counts.steps += steps
        return steps


class Steps:
    """A `Forward` that takes as long as so many draft steps."""

    def __init__(self, count: int) -> None:
        self._left = count

    def done(self) -> bool:
        self._left -= 1
        return self._left < 0


def found(tree: Tree, tokens: Sequence[int]) -> tuple[list[int], bool]:
    """The nodes of these tokens behind the root, as far as there are such, the root first; and
    whether the tree lacks the next one."""
    path = [0]
    for token in tokens:
        children = tree.children(path[-1])
        guesses = tree.tokens(children)
        if token not in guesses:
            return path, True
        path.append(children[guesses.index(token)])
    return path, False
