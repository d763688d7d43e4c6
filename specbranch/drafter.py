"""The draft's side of a request: expands nodes of the tree and follows what is committed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice, takewhile

import torch

from specbranch import ops
from specbranch.calibration import Calibration, drawn
from specbranch.lanes import Lane
from specbranch.models.runner import ModelRunner
from specbranch.ranking import DraftRows, Ranker
from specbranch.sampling import SamplingParams
from specbranch.tree import Node


class Drafter:
    """Runs the draft model on its lane.

    runner: the draft and its cache. lane: where it works. max_fan: guesses ranked per node.
    vocab_size: of the target; guesses stay below it.
    """

    def __init__(self, runner: ModelRunner, lane: Lane, max_fan: int, vocab_size: int) -> None:
        self._runner = runner
        self._lane = lane
        self._ranker = Ranker(runner.max_nodes, max_fan, runner.device, runner.token_ids)
        self._vocab_size = min(vocab_size, runner.vocab_size)
        self._target_vocab_size = vocab_size
        self._law_columns: slice | torch.Tensor = slice(self._vocab_size)
        if runner.token_ids is not None:
            self._law_columns = runner.token_ids.long()
        self._learnt = {"greedy": Calibration(), "sampled": Calibration()}

    def begin(self, params: SamplingParams, committed: Sequence[int]) -> None:
        """Start a request; `committed` is the live sequence of its tokens, the root's last."""
        self._runner.reset()
        self._params = params
        self._committed = committed
        self._ranker.begin(params)
        self._coupling = self._ranker.coupling
        self.calibration = self._calibration(params)
        self._draws = 0  # draft rows so far, each with noise of its own under rejection
        self._laws: dict[Node, torch.Tensor] = {}

    @property
    def free_slots(self) -> int:
        """Nodes that the draft's block can still take."""
        return self._runner.max_nodes - len(self._runner.block)

    def expand(
        self, nodes: Sequence[Node], fan: Callable[[Node], int], ends: Callable[[Node], bool]
    ) -> None:
        """One draft step: compute `nodes` as one batch and attach their children.

        fan: how many children a node gets, asked once its law is known.
        ends: whether reaching a node ends the request.
        """
        first_slot = self._first_slot(nodes[0])
        rows = self._lane.run("draft", self._step_over(nodes), rows=len(nodes))
        for row, node in enumerate(nodes):
            self._grow_below(node, first_slot + row, rows, row, fan, ends)

    def expand_chain(
        self,
        tip: Node,
        length: int,
        fan: Callable[[Node], int],
        ends: Callable[[Node], bool],
    ) -> None:
        """`length` draft steps in a row: the tip, then each time the first choice of the last one.

        A step reads its token where the one before wrote it, so the lane goes on by itself and the
        host waits once. What lies below a node that ends the request is lost.
        """
        first_slot = self._first_slot(tip)
        links = [self._launch_of([tip], length)]
        links += [partial(self._link, row, first_slot + row - 1) for row in range(1, length)]
        *before, last = links
        steps = [self._lane.submit("draft", link, rows=1) for link in before]
        end = self._lane.submit("draft", lambda: (last(), self._ranker.fetch(length)), rows=1)
        laws = [step.result() for step in steps]
        last_law, rows = end.result()
        rows = rows._replace(laws=[law[0] for law in (*laws, last_law) if law is not None] or None)
        node: Node | None = tip
        for row in range(length):
            if node is None or node.terminal:
                return
            self._grow_below(node, first_slot + row, rows, row, fan, ends)
            node = node.children[0] if node.children else None

    def commit(self, path: Sequence[Node], winner: Node | None) -> None:
        """Learn from a verified walk and follow it.

        The expanded part of `path` becomes context; of the rest, what is below `winner` stays.
        """
        self.calibration.learn(path, winner)
        if not self._runner.block:
            return
        kept_path = [node.slot for node in path if node.expanded]
        living = [node for node in winner.walk() if node.expanded] if winner else []
        living.sort(key=lambda node: node.slot)
        keep = kept_path + [node.slot for node in living]
        self._lane.run("commit", lambda: self._runner.commit(keep, len(kept_path)))
        for slot, node in enumerate(living):
            node.slot = slot
        self._laws = {node: self._laws[node] for node in living if node in self._laws}

    def laws(self, nodes: Sequence[Node]) -> torch.Tensor | None:
        """The laws [n, V] that the nodes' children were drawn from, zero where there are none;
        None under the gumbel coupling."""
        if self._coupling == "gumbel":
            return None
        laws = torch.zeros(len(nodes), self._target_vocab_size, device=self._runner.device)
        for row, node in enumerate(nodes):
            if node in self._laws:
                laws[row, self._law_columns] = self._laws[node]
        return laws

    def _first_slot(self, node: Node) -> int:
        """The slot that a node gets if it is expanded next."""
        return 0 if node.parent is None else len(self._runner.block)

    def _step_over(self, nodes: Sequence[Node]) -> Callable[[], DraftRows]:
        launch = self._launch_of(nodes, len(nodes))

        def step() -> DraftRows:
            laws = launch()
            rows = self._ranker.fetch(len(nodes))
            return rows if laws is None else rows._replace(laws=laws.unbind())

        return step

    def _launch_of(
        self, nodes: Sequence[Node], rows_ahead: int
    ) -> Callable[[], torch.Tensor | None]:
        """Work that computes and ranks `nodes`, and seeds so many rows; see Ranker.rank."""
        known = self._runner.vocab_size
        fresh_seeds = self._fresh_seeds(rows_ahead)
        catch_up: Sequence[int] = ()
        if nodes[0].parent is None:
            catch_up = self._committed[self._runner.context_len : -1]
        # A token beyond a narrower draft's vocabulary becomes some other: a worse guess, no error.
        tokens = [node.token % known for node in nodes]
        catch_up = [token % known for token in catch_up]
        parents = [node.parent.slot if node.parent else -1 for node in nodes]

        def launch() -> torch.Tensor | None:
            logits = self._forward(catch_up, tokens, parents)
            if fresh_seeds:
                self._ranker.seed(fresh_seeds)
            return self._rank(logits, 0)

        return launch

    def _link(self, row: int, parent: int) -> torch.Tensor | None:
        """Compute the first choice of the row before, which only the device knows, and rank it."""
        token = self._ranker.first_choice(row - 1)
        return self._rank(self._runner.forward([0], [parent], token=token), row)

    def _rank(self, logits: torch.Tensor, row: int) -> torch.Tensor | None:
        return self._ranker.rank(logits[:, : self._vocab_size], self._runner.next_positions, row)

    def _grow_below(
        self,
        node: Node,
        slot: int,
        rows: DraftRows,
        row: int,
        fan: Callable[[Node], int],
        ends: Callable[[Node], bool],
    ) -> None:
        """Note what a row says of a node that was just computed."""
        node.slot = slot
        node.confidence = rows.max_prob[row]
        node.entropy = rows.entropy[row]
        if rows.ids[row][0] >= 0:  # a bad row of logits has no guesses
            self._attach(node, rows.ids[row], rows.estimates[row], fan, ends)
        if rows.laws is not None:
            self._laws[node] = rows.laws[row]

    def _fresh_seeds(self, rows: int) -> list[int]:
        """Under rejection every row draws with noise of its own: shared noise would be biased as
        soon as a policy looks at the draws. Under gumbel none: all rows share the request's."""
        if self._coupling == "gumbel":
            return []
        first, self._draws = self._draws + 1, self._draws + rows
        return [ops.mix(self._params.seed, n) for n in range(first, first + rows)]

    def _forward(
        self, catch_up: Sequence[int], tokens: list[int], parents: list[int]
    ) -> torch.Tensor:
        """Logits [n, V] of the nodes; tokens that the draft lacks before the root ride along."""
        if len(catch_up) >= self._runner.max_nodes:
            self._runner.prefill(catch_up)
            catch_up = ()
        behind = len(catch_up)
        if not behind:
            return self._runner.forward(tokens, parents)
        logits = self._runner.forward([*catch_up, *tokens], range(-1, behind), logits_rows=1)
        self._runner.commit(range(behind + 1), behind)
        return logits

    def _calibration(self, params: SamplingParams) -> Calibration:
        """What earlier requests taught, except under rejection: there the draws depend on what is
        grown, and a request's text must not depend on those before it."""
        if self._coupling == "rejection":
            return Calibration(drawn)
        return self._learnt["sampled" if params.temperature > 0 else "greedy"]

    def _attach(
        self,
        node: Node,
        ids: list[int],
        estimates: list[float],
        fan: Callable[[Node], int],
        ends: Callable[[Node], bool],
    ) -> None:
        tokens = list(takewhile(lambda token: token >= 0, ids))
        priors = self.calibration.prior(estimates[: len(tokens)])
        chances = self.calibration.chances(priors)
        if self._coupling == "gumbel":  # under rejection the fan may not look at the draws
            node.confidence = chances[0]
        ranked = zip(tokens, priors, chances, strict=True)
        for rank, (token, prior, chance) in enumerate(islice(ranked, fan(node))):
            child = Node(
                token,
                node,
                estimate=node.estimate * chance,
                prior=prior,
                draw=rank + 1 if self._coupling == "rejection" else 0,
                on_main_line=node.on_main_line and rank == 0,
                depth=node.depth + 1,
            )
            child.terminal = ends(child)
            node.children.append(child)
