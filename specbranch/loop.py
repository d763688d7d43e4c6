"""The round loop. There is one; what distinguishes the methods is their policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from specbranch.drafter import Drafter
from specbranch.lanes import Lanes, Pending
from specbranch.policies.base import Outcome, Policy
from specbranch.sampling import SamplingParams
from specbranch.stats import Stats
from specbranch.stopping import Committer
from specbranch.trace import Trace
from specbranch.tree import Node, SpeculationTree, require_connected, require_growable
from specbranch.verifier import Verifier, Walk

RECENT_SPANS = 32  # how far back the measured cost ratio looks


class RoundLoop:
    """One request: grow, submit, grow on, verify, re-root, until the committer has enough.

    Both models' caches hold exactly the committed tokens before the root, plus the draft's block
    of the tree's expanded nodes.
    """

    def __init__(
        self,
        drafter: Drafter,
        verifier: Verifier,
        policy: Policy,
        lanes: Lanes,
        committer: Committer,
        prompt: Sequence[int],
        params: SamplingParams,
        trace: Trace,
    ) -> None:
        self._drafter = drafter
        self._verifier = verifier
        self._policy = policy
        self._lanes = lanes
        self._committer = committer
        self._params = params
        self._trace = trace
        self._committed = list(prompt)
        self._tree = SpeculationTree(prompt[-1])
        self._round_began, self._spans_before = 0.0, 0
        self.stats = Stats()

    def run(self) -> Iterator[tuple[list[int], str]]:
        """Yield, round by round, the committed tokens and the text that they make visible."""
        if self._params.effective_coupling == "rejection":
            self._policy.forget()
        self._policy.begin()
        self._drafter.begin(self._params, self._committed)
        prefill = self._verifier.begin(self._params, self._committed)
        while self._committer.finish_reason is None:
            self._round_began, self._spans_before = self._lanes.now(), len(self._trace.spans)
            with self._lanes.round():
                self._grow()
                rows = self._submit()
                forward = self._verifier.submit(rows)
                self._grow(forward)
                prefill.result()
                logits = forward.result()
                walk = self._verifier.verify(rows, logits, self._drafter.laws(rows))
                committed = self._commit(rows, walk)
            yield committed

    def _grow(self, forward: Pending[object] | None = None) -> None:
        """Let the draft expand nodes until the policy stops or the target answered `forward`."""
        step = 0
        while forward is None or not forward.done():
            wanted = self._policy.grow(self._tree, forward is not None, step)
            require_growable(self._tree.root, wanted)
            nodes = [node for node in wanted if not node.terminal][: self._drafter.free_slots]
            if not nodes:
                return
            steps = self._stretch(nodes, forward is not None, step)
            if steps == 1:
                self._drafter.expand(nodes, self._policy.fan, self._ends)
            else:
                self._drafter.expand_chain(nodes[0], steps, self._policy.fan, self._ends)
            self.stats.draft_forwards += steps
            step += steps

    def _stretch(self, nodes: Sequence[Node], busy: bool, step: int) -> int:
        """Draft steps to take at once: as the policy says, within the block and the request."""
        if len(nodes) > 1:
            return 1
        room = min(self._drafter.free_slots, self._committer.remaining - nodes[0].depth)
        return max(1, min(self._policy.stretch(self._tree, busy, step), room))

    def _ends(self, node: Node) -> bool:
        return self._committer.ends(node.token) or node.depth >= self._committer.remaining

    def _submit(self) -> Sequence[Node]:
        chosen = self._policy.submit(self._tree)
        rows = [node for node in chosen if not node.terminal][: self._verifier.max_rows]
        require_connected(self._tree.root, rows)
        self._tree.submitted = rows
        return rows

    def _commit(self, rows: Sequence[Node], walk: Walk) -> tuple[list[int], str]:
        path, token, winner = walk
        tokens, text = self._committer.commit([node.token for node in path[1:]] + [token])
        self._committed += tokens
        self.stats.tokens += len(tokens)
        self.stats.target_forwards += 1
        self.stats.accepted_lengths.append(len(tokens))
        self.stats.count_walk(path, winner, len(tokens))
        if self._committer.finish_reason is None:
            outlook = self._verifier.outlook(rows, walk)
            rolled_back = self._verifier.commit(rows, path)
            self._drafter.commit(path, winner)
            rolled_back.result()
            dropped = self._tree.reroot(winner, token)
            self.stats.count_dropped(dropped, path)
            self._policy.observe(
                Outcome(
                    hit=winner is not None,
                    accepted=len(path) - 1,
                    submitted=len(rows) - 1,
                    cost_ratio=self._trace.cost_ratio(RECENT_SPANS),
                    seconds=self._lanes.now() - self._round_began,
                    spans=self._trace.spans[self._spans_before :],
                    outlook=outlook,
                )
            )
        return tokens, text
