"""The speculation tree: guessed continuations of the last committed token, its root."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Node:
    """A guessed token.

    A node is *expanded* once the draft has computed its law and its KV; only then can it have
    children. A *terminal* node ends the request if it is reached, so it is never expanded and
    never submitted.
    """

    token: int
    parent: Node | None = None
    estimate: float = 1.0  # chance that decoding passes through here, given the root
    prior: float = 1.0  # chance of this guess given its parent, before calibration
    draw: int = 0  # n for the n-th draw from the parent's law, 0 for a deterministic guess
    on_main_line: bool = True  # the draft's first choice all the way from the root
    terminal: bool = False
    depth: int = 0  # edges from the root
    slot: int = -1  # place in the draft's block, -1 while unexpanded
    confidence: float = 0.0  # chance of its first child (under rejection: max of its law)
    entropy: float = 0.0  # of the draft's law here, in nats; both once expanded
    children: list[Node] = field(default_factory=list)  # the draft's ranking, best first

    @property
    def expanded(self) -> bool:
        return self.slot >= 0

    @property
    def expandable(self) -> bool:
        return self.slot < 0 and not self.terminal

    def walk(self) -> Iterator[Node]:
        """This node and everything below it, parents before children."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))

    def first_choices(self) -> list[Node]:
        """This node and the draft's first choice at every node below it."""
        chain = [self]
        while chain[-1].children:
            chain.append(chain[-1].children[0])
        return chain


class SpeculationTree:
    """The tree of one request, re-rooted every round at the newest committed token.

    `submitted` holds the nodes the target is working on, in the order of its rows; it is empty
    while the target is idle.
    """

    def __init__(self, root_token: int) -> None:
        self.root = Node(root_token)
        self.submitted: Sequence[Node] = ()

    def walk(self) -> Iterator[Node]:
        return self.root.walk()

    def main_line(self) -> list[Node]:
        """The root and the draft's first choices below it."""
        return self.root.first_choices()

    def frontier(self) -> list[Node]:
        """Every node that could be expanded next."""
        return [node for node in self.walk() if node.expandable]

    def reroot(self, winner: Node | None, token: int) -> list[Node]:
        """Make `winner`, or a fresh node for `token` if no guess won, the new root.

        The subtree below the winner lives on with depths and estimates relative to the new root.
        Returns the nodes that were dropped, the old path from root to winner excluded.
        """
        old_root, self.submitted = self.root, ()
        kept = {id(node) for node in winner.walk()} if winner else set()
        dropped = [node for node in old_root.walk() if id(node) not in kept]
        if winner is None:
            self.root = Node(token)
            return dropped
        depth, estimate = winner.depth, max(winner.estimate, 1e-30)
        for node in winner.walk():
            node.depth -= depth
            node.estimate /= estimate
        for node in winner.first_choices():
            node.on_main_line = True
        winner.parent = None
        self.root = winner
        return dropped


def require_growable(root: Node, nodes: Sequence[Node]) -> None:
    """Raise ValueError unless `nodes` are distinct, unexpanded and each below an expanded parent
    of the tree at `root`, or the root itself."""
    for node in nodes:
        top = node
        while top.parent is not None:
            top = top.parent
        if top is not root or node.expanded or (node.parent and not node.parent.expanded):
            raise ValueError(
                f"grow: expected unexpanded nodes of the tree whose parents are expanded, "
                f"got token {node.token} at depth {node.depth}"
            )
    if len({id(node) for node in nodes}) < len(nodes):
        raise ValueError("grow: expected distinct nodes, got one twice")


def require_connected(root: Node, nodes: Sequence[Node]) -> None:
    """Raise ValueError unless `nodes` is a subtree at `root`, parents before children."""
    if not nodes or nodes[0] is not root:
        raise ValueError("submit: expected the root as the first node")
    seen = {id(root)}
    for node in nodes[1:]:
        if node.parent is None or id(node.parent) not in seen or id(node) in seen:
            raise ValueError(
                "submit: expected distinct nodes, each after its parent, "
                f"got token {node.token} at depth {node.depth} out of order"
            )
        seen.add(id(node))
