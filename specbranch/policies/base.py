"""What a drafting policy answers. Everything else is the loop's, and there is one loop."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, NamedTuple

from specbranch.trace import Span

if TYPE_CHECKING:
    from typing import Self

    from specbranch._C import Tree


class Outlook(NamedTuple):
    """H-RAD's chances for the draft's next tokens below the new root; they add up to 1."""

    nothing: float  # the first of them is wrong
    some: float
    everything: float  # the first gamma of them are right


class Outcome(NamedTuple):
    """What a round came to, told to the policy after the tree was re-rooted."""

    hit: bool  # the token that ended the walk was in the tree
    accepted: int  # submitted guesses that were right
    submitted: int  # submitted guesses, the root excluded
    cost_ratio: float  # seconds of the target forward over seconds of one draft step, 0 if unknown
    seconds: float = 0.0  # of the lanes' clock, that the round took
    spans: Sequence[Span] = ()  # what the lanes did in it
    requests: int = 1  # that took part
    outlook: Outlook | None = None  # only for a policy that reads it, and with a classifier


class Policy:
    """Decides where the tree grows and what the target checks.

    A policy sees a tree of plain numbers and knows no tensor, lane or model. It names nodes by
    their ids in the tree, which hold until the tree is re-rooted: an id kept from one round to the
    next names some other node. Whatever it grows and submits, verification alone decides what is
    committed: every child of a visited node is tested, submitted or not, and every draw has noise
    of its own. One thing is forbidden, and only under the rejection coupling: `fan` may look at
    what a node's law says (`max_prob`, `first_chance`, `entropy`) and at the tree's shape, never at
    which tokens were drawn, for a draw that is dropped because of what it is biases the rest.

    The policy that an engine is given serves as a pattern: every request works with a copy.
    """

    name = "policy"
    drafts = True  # `grow` names nodes at times
    overlaps = False  # the draft grows while the target is busy
    max_fan = 1  # the most children that `fan` asks for
    gamma = 0  # guesses of a chain, at most; 0 where it follows the costs or there are no chains
    reads_outlook = False  # uses `Outcome.outlook` where an engine can give it

    def begin(self) -> Self:
        """A policy for a new request, as this one was made.

        It shares what the requests of this policy taught about the machine and the pair. This is a
        shallow copy: what is to be shared belongs into an object that stays the same.
        """
        return copy(self)

    def fresh(self) -> Self:
        """Like `begin`, but sharing nothing that was learnt.

        Under the rejection coupling the draws depend on what was grown, so that there every request
        starts so: its text must not depend on those before it.
        """
        return self.begin()

    def report(self) -> dict[str, float | str]:
        """What it does and why, for `Engine.stats`; nothing by default."""
        return {}

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        """The nodes to expand in draft step `step` of this phase; none ends the phase.

        busy: the target is working on `tree.submitted`; the phase also ends when it answers.
        """
        return ()

    def stretch(self, tree: Tree, busy: bool, step: int) -> int:
        """How many steps of the chain that `grow` just named the tip of are certain, whatever the
        draft says: this one, and further ones over the first choice of the node before."""
        return 1

    def fan(self, tree: Tree, nodes: Sequence[int]) -> Sequence[int]:
        """How many of the draft's ranked guesses become children, of each of the nodes that a step
        has just expanded."""
        return [1] * len(nodes)

    def survey(self, trees: Sequence[Tree]) -> None:
        """Look at all requests' trees before each is asked for what it submits: what is told to one
        request's policy is for the policies of all, which are copies of one."""

    def submit(self, tree: Tree) -> Sequence[int]:
        """A subtree at the root, parents before children: the rows of the next target forward."""
        return (0,)

    def observe(self, outcome: Outcome) -> None:
        """Learn from the round that just ended."""
