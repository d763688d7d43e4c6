"""Whole requests at random, held against the plain model after every operation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from specbranch import _C
from tests.tree import model

ENDS = frozenset({3, 11})
K = 5
FLOATS = ("estimate", "prior", "max_prob", "first_chance", "entropy")
EXACT = ("token", "depth", "slot", "rank", "draw", "on_main_line", "terminal")
SHARES = st.floats(0, 1, width=32)


class Requests(RuleBasedStateMachine):
    @initialize(coupling=st.sampled_from(["gumbel", "rejection"]), remaining=st.integers(3, 30))
    def begin(self, coupling: str, remaining: int) -> None:
        self.tree = _C.Tree(1, coupling=coupling, ends=ENDS, remaining=remaining)
        self.model = model.Tree(1, coupling, ENDS, remaining)
        self.reliability = _C.Reliability(coupling)
        self.definition = model.Reliability(coupling)

    @rule(data=st.data())
    def grow(self, data: st.DataObject) -> None:
        expandable = [node for node in self.model.nodes if node.expandable]
        nodes = data.draw(st.lists(st.sampled_from(expandable), max_size=4, unique=True)) if (
            expandable
        ) else []  # fmt: skip
        asked, nodes = nodes, self.model.growable(nodes)
        n, first_row = len(nodes), data.draw(st.integers(0, 2))
        guesses = st.lists(st.integers(0, 15), max_size=K, unique=True)
        ids = [data.draw(guesses) for _ in nodes]
        laws = np.array(
            data.draw(st.lists(SHARES, min_size=n * (K + 2), max_size=n * (K + 2))), np.float32
        ).reshape(n, K + 2)
        fans = data.draw(st.lists(st.integers(0, K + 1), min_size=n, max_size=n))
        slot = sum(node.slot >= 0 for node in self.model.nodes)

        rows = np.zeros((first_row + n, K + 2), np.float32)
        rows[first_row:] = laws
        padded = np.full((first_row + n, K), -1, np.int32)
        for row, chosen in enumerate(ids, start=first_row):
            padded[row, : len(chosen)] = chosen
        wanted = self.model.ids(nodes)
        terminal = [i for i, node in enumerate(self.model.nodes) if node.terminal][:1]
        assert self.tree.growable([*terminal, *self.model.ids(asked)], slot + n) == wanted
        assert self.tree.growable(self.model.ids(asked), slot + n // 2) == wanted[: n // 2]
        assert self.tree.num_expanded == slot
        assert self.tree.estimates(wanted) == self.tree.estimate[wanted].tolist()
        assert self.tree.draft_rows(wanted) == (
            [node.token for node in nodes],
            [
                slot + nodes.index(node.parent)
                if node.parent in nodes
                else node.parent.slot
                if node.parent
                else -1
                for node in nodes
            ],
        )
        self.tree.expand(
            wanted,
            padded,
            rows[:, :K].copy(),
            rows[:, K].copy(),
            rows[:, K + 1].copy(),
            first_row,
            self.reliability,
        )
        self.tree.attach(fans)
        for i, node in enumerate(nodes):
            *estimates, max_prob, entropy = laws[i].tolist()
            self.model.expand(
                node, slot + i, ids[i], estimates, max_prob, entropy, fans[i], self.definition
            )

    @rule(data=st.data())
    def match(self, data: st.DataObject) -> None:
        living = [node for node in self.model.nodes if not node.terminal]
        node = data.draw(st.sampled_from(living)) if living else None
        if node is None:
            return
        tokens = data.draw(st.lists(st.integers(0, 15), max_size=3, unique=True))
        chances = data.draw(st.lists(SHARES, min_size=len(tokens), max_size=len(tokens)))
        matches = self.tree.match(self.model.id_of(node), tokens, chances)
        assert matches == self.model.ids(self.model.match(node, tokens, chances))

    @rule(data=st.data())
    def submit(self, data: st.DataObject) -> None:
        chosen = [self.model.root]
        for _ in range(data.draw(st.integers(0, 8))):
            reachable = [c for n in chosen for c in n.children if c not in chosen]
            if not reachable:
                break
            chosen.append(data.draw(st.sampled_from(reachable)))
        limit = data.draw(st.integers(1, 9))
        rows = [node for node in chosen if not node.terminal][:limit]
        assert self.tree.submit(self.model.ids(chosen), limit) == self.model.ids(rows)
        self.model.submitted = rows
        parents = [rows.index(node.parent) if node.parent else -1 for node in rows]
        assert self.tree.rows() == ([node.token for node in rows], parents)

    @precondition(lambda self: self.model.submitted)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """Verification answers with a way that it could have taken."""
        question = self.model.question()
        self.require_question(question)
        path, winner = [self.model.root], None
        while path[-1].children:
            reached = data.draw(st.sampled_from([None, *path[-1].children]))
            if reached is None or reached not in self.model.submitted:
                winner = reached if reached and not reached.terminal else None
                break
            path.append(reached)
        places = [question.index(node) for node in path]
        place = question.index(winner) if winner else -1
        walk = self.model.ids(path), self.model.id_of(winner)
        assert self.tree.answer(places, place) == walk

        self.tree.teach(*walk, self.reliability)
        self.model.teach(path, winner, self.definition)
        keep = self.model.keep(path, winner)
        assert self.tree.keep(*walk) == keep
        assert keep[0] == sorted(set(keep[0]))
        token = winner.token if winner else data.draw(st.integers(0, 15))
        assert self.tree.reroot(*walk, token) == self.model.reroot(path, winner, token)
        self.model.remaining = max(0, self.model.remaining - len(path))
        self.tree.remaining = self.model.remaining

    def require_question(self, question: list[model.Node]) -> None:
        n = self.tree.question_size()
        assert n == len(question)
        candidates, parents = np.zeros((2, n), np.int32), np.zeros((2, n), np.int32)
        n_nodes, draw = np.ones(2, np.int32), np.zeros((2, n), np.uint8)
        _C.write_questions([self.tree], candidates, parents, n_nodes, draw)
        assert n_nodes.tolist() == [n, 0]
        assert candidates[0].tolist() == [node.token for node in question]
        assert parents[0].tolist() == [
            question.index(node.parent) if node.parent else -1 for node in question
        ]
        assert draw[0, 1:].tolist() == [node.draw for node in question[1:]]

    @invariant()
    def every_node_is_the_same(self) -> None:
        nodes = self.model.nodes
        assert len(self.tree) == len(nodes)
        for name in EXACT:
            assert getattr(self.tree, name).tolist() == [getattr(node, name) for node in nodes]
        for name in FLOATS:
            theirs = [getattr(node, name) for node in nodes]
            assert getattr(self.tree, name) == pytest.approx(theirs, rel=1e-12, abs=1e-300)
        assert self.tree.parent.tolist() == [self.model.id_of(node.parent) for node in nodes]
        assert self.tree.submitted == self.model.ids(self.model.submitted)
        children = [self.model.ids(node.children) for node in nodes]
        assert [self.tree.children(i) for i in range(len(nodes))] == children
        assert self.tree.first_child.tolist() == [ids[0] if ids else -1 for ids in children]
        assert [self.tree.first_guess(i) for i in range(len(nodes))] == [
            next((self.model.id_of(each) for each in node.children if each.rank == 0), -1)
            for node in nodes
        ]
        assert [self.tree.expandable(i) for i in range(len(nodes))] == [
            node.expandable for node in nodes
        ]

    @invariant()
    def every_choice_is_the_same(self) -> None:
        nodes = self.model.nodes
        for count in (0, 3, len(nodes)):
            assert self.tree.frontier(count) == self.model.ids(self.model.frontier(count))
            assert self.tree.likeliest(count) == self.model.ids(self.model.likeliest(count))
        for i in (0, len(nodes) // 2):
            assert self.tree.main_line(i) == self.model.ids(nodes[i].first_choices())
        path = self.tree.path(len(nodes) - 1)
        assert [0, *path][-1] == len(nodes) - 1
        assert self.tree.parent[path].tolist() == [0, *path[:-1]][: len(path)]


Requests.TestCase.settings = settings(
    deadline=None,
    max_examples=60,
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestRequests = Requests.TestCase
