"""What a draft with a tokenizer of its own has computed beyond a request's text: a tree in its own
tokens, where places are found by their text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from specbranch.models.block import Block, BlockRows, Keep
from specbranch.vocabulary import Translation


class Said(NamedTuple):
    """What the draft says may follow a node."""

    first: int  # its own token that is likeliest, -1 without
    guesses: dict[int, float]  # the target's tokens, best first, and the chance of each


@dataclass(slots=True)
class Node:
    """A token of the draft's."""

    token: int
    parent: int
    text: bytes  # from the root's end to this token's
    said: Said | None = None  # once computed


class DraftedText:
    """A request's text in the draft's tokens, and the draft's tree beyond it.

    tokens: the draft's, up to the root: of the prompt in the beginning, and never empty.
    block: where they are computed. max_tokens: of them. num_committed: the target's tokens so far.
    pending: committed text beyond the root: no node ends where it does, so far.
    nodes: in the order of their slots, the root first; the block has computed the first of them.
    """

    def __init__(
        self,
        tokens: Sequence[int],
        block: Block,
        max_tokens: int,
        num_committed: int,
        translation: Translation,
    ) -> None:
        self.tokens = list(tokens)
        self.block = block
        self.pending = b""
        self._max_tokens = max_tokens
        self._num_committed = num_committed
        self._target, self._draft = translation.target, translation.draft
        self._plant()

    @property
    def is_read(self) -> bool:
        """Whether the block holds all tokens before the root."""
        return self.block.context_len == len(self.tokens) - 1

    @property
    def lacks(self) -> list[Node]:
        """The nodes that are to be computed."""
        return self.nodes[len(self.block) :] if self.is_read else []

    def num_beyond(self, node: Node) -> int:
        """Tokens of the target's from the committed text to the node."""
        return len(self._target.split(node.text[len(self.pending) :]))

    def reach(self, text: bytes) -> int:
        """The node that ends where the text does, or inside whose token that is. If there is none,
        new ones spell what is left behind the node that comes closest. -1 where the block is full.
        """
        inside = -1
        for slot, node in enumerate(self.nodes):
            if node.text == text:
                return slot
            if inside < 0 and node.text.startswith(text):
                inside = slot
        return inside if inside >= 0 else self._spell(text)

    def _spell(self, text: bytes) -> int:
        slot = self._last_within(text)
        spelt = self._draft.split(text[len(self.nodes[slot].text) :])
        if not spelt or len(self.nodes) + len(spelt) > self.block.max_nodes:
            return -1
        for token in spelt:
            slot = self._append(token, slot)
        self.nodes[slot].text = text  # also where it has characters that the draft lacks
        return slot

    def extend(self, tip: int) -> bool:
        """Let the likeliest token follow the node, if there is one, and room."""
        said = self.nodes[tip].said
        if said is None or said.first < 0 or len(self.nodes) == self.block.max_nodes:
            return False
        self._append(said.first, tip)
        return True

    def line(self, slot: int) -> list[int]:
        """The node, and below it the likeliest ones that there are."""
        line = [slot]
        followers = {(node.parent, node.token): slot for slot, node in enumerate(self.nodes)}
        while (said := self.nodes[line[-1]].said) and (line[-1], said.first) in followers:
            line.append(followers[line[-1], said.first])
        return line

    def rows(self) -> BlockRows:
        """What computes them."""
        new = self.lacks
        return BlockRows(
            self.block, [node.token for node in new], [node.parent for node in new], len(new)
        )

    def follow(self, committed: Sequence[int]) -> Keep | None:
        """Take in what is new of the target's tokens. Returns what the block keeps, None where that
        is all."""
        self.pending += self._target.text(committed[self._num_committed :])
        self._num_committed = len(committed)
        end = self._last_within(self.pending)
        path = []
        while end >= 0:
            path.append(end)
            end = self.nodes[end].parent
        *before, root = reversed(path)
        below = [
            slot
            for slot, node in enumerate(self.nodes)
            if slot > root and node.text.startswith(self.pending)
        ]
        kept = [*before, root, *below]
        if len(kept) == len(self.nodes) and not before:
            return None
        self.tokens += [self.nodes[slot].token for slot in [*before[1:], root] if slot]
        self._replant(root, below)
        if len(self.tokens) > self._max_tokens:
            self._begin_anew()
            return None
        return Keep(self.block, kept, len(before))

    def settle(self) -> None:
        """Where much text is pending, take it in as tokens to be read."""
        spelt = self._draft.split(self.pending)
        if 2 * len(spelt) > self.block.max_nodes:
            self.tokens += spelt
            self.pending = b""
            self.block.rewind(self.block.context_len)
            self._plant()
            if len(self.tokens) > self._max_tokens:
                self._begin_anew()

    def _begin_anew(self) -> None:
        """Go on with the latter half of what the draft can hold."""
        self.tokens = self.tokens[-max(1, self._max_tokens // 2) :]
        self.block.rewind(0)
        self._plant()

    def _plant(self) -> None:
        self.nodes = [Node(self.tokens[-1], -1, b"")]

    def _replant(self, root: int, below: Sequence[int]) -> None:
        start = len(self.nodes[root].text)
        place = {-1: -1} | {slot: new for new, slot in enumerate([root, *below])}
        living = [self.nodes[slot] for slot in place if slot >= 0]
        living[0].parent = -1
        for node in living:
            node.text, node.parent = node.text[start:], place[node.parent]
        self.pending = self.pending[start:]
        self.nodes = living

    def _append(self, token: int, parent: int) -> int:
        text = self.nodes[parent].text + self._draft.texts[token]
        self.nodes.append(Node(token, parent, text))
        return len(self.nodes) - 1

    def _last_within(self, text: bytes) -> int:
        """The node of the longest text that this one begins with."""
        within = (slot for slot, node in enumerate(self.nodes) if text.startswith(node.text))
        return max(within, key=lambda slot: len(self.nodes[slot].text))
