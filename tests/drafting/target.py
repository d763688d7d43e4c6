"""A target that another engine would run: it decides one token after another by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel

from specbranch.drafting import Answer, Drafter, Text
from tests.models.tiny import eager, logits


class Target:
    """Greedy, by transformers' own forward over the whole text. It remembers its decisions."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = eager(model)
        self._decided: dict[tuple[int, ...], int] = {}

    def next(self, tokens: Sequence[int]) -> int:
        key = tuple(tokens)
        if key not in self._decided:
            self._decided[key] = int(logits(self._model, tokens)[-1].argmax())
        return self._decided[key]

    def plain(self, prompt: Sequence[int], count: int) -> list[int]:
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(self.next(tokens))
        return tokens

    def accepted(self, tokens: Sequence[int], answer: Answer) -> list[int]:
        """The guesses that are right, and the token after them."""
        committed: list[int] = []
        place = -1
        while True:
            committed.append(self.next([*tokens, *committed]))
            children = [at for at, parent in enumerate(answer.parents) if parent == place]
            right = [at for at in children if answer.tokens[at] == committed[-1]]
            if not right:
                return committed
            place = right[0]


class Decoding:
    """Texts that a drafter and a target write together.

    guessed, right: guesses that were verified, and those that were right.
    """

    def __init__(self, drafter: Drafter, target: Target) -> None:
        self.texts: dict[Text, list[int]] = {}
        self.forwards = self.guessed = self.right = 0
        self._drafter = drafter
        self._target = target
        self._answers: dict[Text, Answer] = {}

    def join(self, prompt: Sequence[int]) -> Text:
        """A request whose first token is there."""
        tokens = [*prompt, self._target.next(prompt)]
        text = self._drafter.begin(tokens)
        self.texts[text] = tokens
        return text

    def leave(self, text: Text) -> list[int]:
        self._drafter.end(text)
        self._answers.pop(text, None)
        return self.texts.pop(text)

    def round(self, texts: Sequence[Text] | None = None) -> Mapping[Text, Answer]:
        """Some texts go on, all by default."""
        news = {}
        for text in self.texts if texts is None else texts:
            answer = self._answers.get(text)
            news[text] = []
            if answer is not None:
                news[text] = self._target.accepted(self.texts[text], answer)
                self.texts[text] += news[text]
                self.forwards += 1
                self.guessed += len(answer.tokens)
                self.right += len(news[text]) - 1
        answers = dict(zip(news, self._drafter.propose(news), strict=True))
        self._answers |= answers
        return answers

    def run(self, tokens: int) -> None:
        """Until every text is so long."""
        while unfinished := [text for text, sofar in self.texts.items() if len(sofar) < tokens]:
            self.round(unfinished)
