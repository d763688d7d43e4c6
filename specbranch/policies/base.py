"""What a drafting policy answers. Everything else is the loop's, and there is one loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from specbranch.trace import Span
from specbranch.tree import Node, SpeculationTree


class Outlook(NamedTuple):
    """H-RAD's chances for the draft's next tokens below the new root; they add up to 1."""

    nothing: float  # the first of them is wrong
    some: float
    everything: float  # the first gamma of them are right


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round came to, told to the policy after the tree was re-rooted."""

    hit: bool  # the token that ended the walk was in the tree
    accepted: int  # submitted guesses that were right
    submitted: int  # submitted guesses, the root excluded
    cost_ratio: float  # seconds of the target forward over seconds of one draft step, 0 if unknown
    seconds: float = 0.0  # of the lanes' clock, that the round took
    spans: Sequence[Span] = ()  # what the lanes did in it
    outlook: Outlook | None = None  # only for a policy that reads it, and with a classifier


class Policy:
    """Decides where the tree grows and what the target checks.

    A policy sees a tree of plain numbers and knows no tensor, lane or model. Whatever it grows and
    submits, verification alone decides what is committed: every child of a visited node is tested,
    submitted or not, and every draw has noise of its own. One thing is forbidden, and only under
    the rejection coupling: `fan` may look at what a node's law says (`confidence`, `entropy`) and
    at the tree's shape, never at which tokens were drawn, for a draw that is dropped because of
    what it is biases the rest.
    """

    name: str
    overlaps = False  # the draft grows while the target is busy
    max_fan = 1  # the most children `fan` asks for
    gamma = 0  # guesses of a chain, at most; 0 for a policy that grows no chains
    reads_outlook = False  # uses `Outcome.outlook` where an engine can give it

    def begin(self) -> None:
        """Start a request."""

    def forget(self) -> None:
        """Forget what earlier requests taught.

        Under the rejection coupling the draws depend on what was grown, so that there every request
        starts so: its text must not depend on those before it.
        """

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Node]:
        """The nodes to expand in draft step `step` of this phase; none ends the phase.

        busy: the target is working on `tree.submitted`; the phase also ends when it answers.
        """
        return ()

    def stretch(self, tree: SpeculationTree, busy: bool, step: int) -> int:
        """How many steps, that of a single node which `grow` just named and further ones over the
        first choice of the node before, are to come whatever the draft says of them."""
        return 1

    def fan(self, node: Node) -> int:
        """How many of the draft's ranked candidates become children of a just expanded node."""
        return 1

    def submit(self, tree: SpeculationTree) -> Sequence[Node]:
        """A subtree at the root, parents before children: the rows of the next target forward."""
        return (tree.root,)

    def observe(self, outcome: Outcome) -> None:
        """Learn from the round that just ended."""
