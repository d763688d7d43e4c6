from __future__ import annotations

import numpy as np
import pytest

from specbranch._C import Reliability, Tree, write_questions
from tests.tree.grown import grow


def test_a_fresh_tree_is_an_unexpanded_root():
    tree = Tree(7)
    assert len(tree) == 1
    assert (tree.token[0], tree.parent[0], tree.slot[0], tree.first_child[0]) == (7, -1, -1, -1)
    assert (tree.estimate[0], tree.depth[0]) == (1.0, 0)
    assert tree.on_main_line[0]
    assert tree.frontier(5) == tree.likeliest(5) == tree.main_line() == [0]
    assert tree.children(0) == tree.path(0) == tree.submitted == []


def test_nodes_are_numbered_as_they_join_and_siblings_by_rank():
    tree = Tree(0)
    first, second = grow(tree, 0, [1, 2])
    assert grow(tree, second, [5]) == [3]
    assert grow(tree, first, [3, 4]) == [4, 5]
    assert tree.token.tolist() == [0, 1, 2, 5, 3, 4]
    assert tree.parent.tolist() == [-1, 0, 0, 2, 1, 1]
    assert tree.tokens(tree.main_line()) == [0, 1, 3]
    assert tree.tokens(tree.main_line(second)) == [2, 5]
    assert tree.tokens(tree.path(5)) == [1, 4]
    assert tree.first_children([0, second, 5]) == [first, 3, -1]
    assert tree.slots([second, 0, first, 3]) == [1, 0, 2, -1]
    with pytest.raises(ValueError, match=r"^nodes: expected .*, got 6$"):
        tree.first_chances([0, 6])
    assert tree.estimate.tolist() == [1, 0.5, 0.25, 0.125, 0.25, 0.125]
    assert tree.frontier(9) == [4, 3, 5]  # ties by id
    assert tree.likeliest(4) == [0, 1, 2, 4]


def test_columns_are_copies():
    tree = Tree(0)
    tree.token[0] = 5
    assert tree.token[0] == 0


def test_guesses_end_at_the_first_padding_and_a_fan_takes_no_more_than_there_are():
    tree, certainty = Tree(0), np.zeros(2, np.float32)
    ids = np.array([[1, -1, 2], [-1, 3, 4]], np.int32)
    estimates = np.full((2, 3), 0.2, np.float32)
    tree.expand([0], ids, estimates, certainty, certainty, 0, Reliability())
    tree.attach([3])
    assert tree.tokens(tree.children(0)) == [1]
    tree.expand([1], ids, estimates, certainty, certainty, 1, Reliability())
    tree.attach([3])
    assert tree.children(1) == []
    assert tree.slot.tolist() == [0, 1]


def test_a_node_says_how_sure_the_draft_is_of_it():
    for coupling, first_chance in (("gumbel", 0.75), ("rejection", 0.875)):
        tree = Tree(0, coupling=coupling)
        row = np.array([[0.75, 0.125]], np.float32)
        max_prob, entropy = np.array([0.875], np.float32), np.array([0.5], np.float32)
        ids = np.array([[4, 5]], np.int32)
        tree.expand([0], ids, row, max_prob, entropy, 0, Reliability(coupling, copy_odds=0))
        assert (tree.max_prob[0], tree.first_chance[0], tree.entropy[0]) == (
            0.875,
            first_chance,
            0.5,
        )
        tree.attach([2])
        assert tree.draw.tolist() == ([0, 0, 0] if coupling == "gumbel" else [0, 1, 2])


def test_estimates_that_are_not_numbers_count_as_nothing():
    tree = Tree(0)
    grow(tree, 0, [1, 2, 3], [float("nan"), 0.5, float("nan")])
    assert tree.estimate.tolist() == [1, 0, 0.5, 0]
    assert tree.likeliest(9) == [0, 2, 1, 3]


def test_a_row_that_decides_nothing_leaves_no_nan_behind():
    tree, nan = Tree(0), float("nan")
    grow(tree, 0, [-1], [nan], max_prob=nan, entropy=nan)
    assert (tree.max_prob[0], tree.first_chance[0], tree.entropy[0]) == (0, 0, 0)
    assert len(tree) == 1


def test_guesses_that_end_the_request_are_neither_expanded_nor_submitted():
    tree = Tree(0, ends={2, 9}, remaining=2)
    first, second = grow(tree, 0, [1, 2])
    (last,) = grow(tree, first, [3])
    assert tree.terminal.tolist() == [False, False, True, True]
    assert tree.frontier(5) == []
    assert tree.likeliest(9) == [0, first]
    assert tree.growable([second, last], 5) == []
    assert tree.submit([0, second, first, last], 2) == [0, first]
    with pytest.raises(ValueError, match="expand: expected no terminal node, got node 2"):
        grow(tree, second, [5])


def test_remaining_counts_for_nodes_to_come():
    tree = Tree(0, remaining=2)
    (first,) = grow(tree, 0, [1])
    tree.remaining = 1
    assert tree.remaining == 1
    assert tree.expandable(first)
    tree.reroot([0], -1, 6)
    assert tree.expandable(0)
    assert not tree.expandable(grow(tree, 0, [1])[0])
    with pytest.raises(ValueError, match="remaining: expected an integer >= 0, got -1"):
        tree.remaining = -1


def test_what_can_grow_is_checked():
    tree = Tree(0)
    first, second = grow(tree, 0, [1, 2])
    assert tree.growable([second, first], 2) == [second]
    assert tree.growable([second, first], 0) == []
    assert tree.growable((), 3) == []
    for nodes, got in (
        ([0], r"node 0 \(token 0 at depth 0\)"),
        ([first, first], r"node 1 \(token 1 at depth 1\)"),
        ([3], "3"),
        ([-1], "-1"),
        ([first, "x"], r"\[1, 'x'\]"),
        ([0.5], r"\[0.5\]"),
        (None, "None"),
    ):
        with pytest.raises(ValueError, match=rf"^grow: expected .*, got {got}$"):
            tree.growable(nodes, 5)


def test_fans_are_checked():
    tree = Tree(0)
    certainty = np.zeros(1, np.float32)
    ids, estimates = np.array([[1, 2]], np.int32), np.full((1, 2), 0.25, np.float32)
    tree.expand([0], ids, estimates, certainty, certainty, 0, Reliability())
    for fans, got in (([], "0"), ([1, 1], "2"), ([-1], "-1"), (3, "3"), ([None], r"\[None\]")):
        with pytest.raises(ValueError, match=rf"^fan: expected .*, got {got}$"):
            tree.attach(fans)
    tree.attach([2])
    assert len(tree) == 3
    with pytest.raises(ValueError, match="fan: expected 0 counts, one a node, got 1"):
        tree.attach([2])


def test_more_guesses_than_a_draws_byte_can_number_are_refused():
    certainty = np.zeros(1, np.float32)
    ids, estimates = np.zeros((1, 256), np.int32), np.zeros((1, 256), np.float32)
    with pytest.raises(ValueError, match="expand: ids: expected 255 columns at most, got 256"):
        Tree(0).expand([0], ids, estimates, certainty, certainty, 0, Reliability())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ids", np.zeros((2, 3), np.int64)),
        ("ids", np.zeros(3, np.int32)),
        ("ids", np.zeros((3, 2), np.int32).T),
        ("estimates", np.zeros((2, 4), np.float32)),
        ("estimates", np.zeros((2, 3))),
        ("max_prob", np.zeros(3, np.float32)),
        ("entropy", np.zeros((2, 1), np.float32)),
        ("entropy", np.zeros(4, np.float32)[::2]),
        ("first_row", -1),
        ("first_row", 2),
        ("nodes", [1]),
    ],
)
def test_a_draft_step_of_other_shapes_is_refused_and_changes_nothing(name, value):
    rows = {
        "nodes": [0],
        "ids": np.zeros((2, 3), np.int32),
        "estimates": np.zeros((2, 3), np.float32),
        "max_prob": np.zeros(2, np.float32),
        "entropy": np.zeros(2, np.float32),
        "first_row": 1,
        "reliability": Reliability(),
    }
    tree = Tree(0)
    with pytest.raises(ValueError, match="expand"):
        tree.expand(**rows | {name: value})
    assert tree.expandable(0)
    tree.expand(**rows)
    assert not tree.expandable(0)


def test_a_submission_must_be_a_subtree_at_the_root():
    tree = Tree(0)
    first, second = grow(tree, 0, [1, 2])
    (below,) = grow(tree, first, [3])
    assert tree.submit([0, first, below, second], 3) == tree.submitted == [0, first, below]
    assert tree.rows() == ([0, 1, 3], [-1, 0, 1])
    for nodes in ([], [first], [0, below], [0, first, first], [0, 9], [0, 0], 0):
        with pytest.raises(ValueError, match=r"^submit: expected"):
            tree.submit(nodes, 9)
    with pytest.raises(ValueError, match="submit: expected the root"):
        tree.submit([0], 0)
    assert tree.submitted == [0, first, below]


def test_a_question_holds_the_rows_then_their_other_children():
    tree = Tree(0, coupling="rejection")
    _, second, third = grow(tree, 0, [1, 2, 3])
    below = grow(tree, second, [4, 5])
    assert below == [4, 5]
    tree.submit([0, second, third], 9)
    grow(tree, third, [6])  # while the target is busy
    idle = Tree(9)
    arrays = {
        "candidates": np.full((3, 8), -7, np.int32),
        "parents": np.full((3, 8), -7, np.int32),
        "n_nodes": np.full(3, -7, np.int32),
        "draw": np.full((3, 8), 77, np.uint8),
    }
    write_questions([tree, idle], **arrays)
    n = tree.question_size()
    assert arrays["n_nodes"].tolist() == [n, 0, 0] == [7, 0, 0]
    assert arrays["candidates"][0].tolist() == [0, 2, 3, 1, 4, 5, 6, -7]
    assert arrays["parents"][0, :n].tolist() == [-1, 0, 0, 0, 1, 1, 2]
    assert arrays["draw"][0, :n].tolist() == [0, 2, 3, 1, 1, 2, 1]
    assert (arrays["candidates"][1:] == -7).all()
    assert tree.answer([0, 1], 5) == ([0, second], below[1])
    assert tree.answer([0], -1) == ([0], -1)
    for path, winner in (([], -1), ([1], -1), ([0, 7], -1), ([0, 1], 3), ([0], 7), ([0], -2)):
        with pytest.raises(ValueError, match=r"^answer: expected"):
            tree.answer(path, winner)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("candidates", np.zeros((1, 1), np.int32)),
        ("candidates", np.zeros(2, np.int32)),
        ("parents", np.zeros((1, 2), np.int64)),
        ("n_nodes", np.zeros(2, np.int32)),
        ("draw", np.zeros((1, 2), np.int8)),
        ("draw", np.frombuffer(bytes(2), np.uint8)[None]),
        ("trees", [Tree(0), Tree(0)]),
    ],
)
def test_questions_need_arrays_that_they_fit(name, value):
    tree = Tree(0)
    grow(tree, 0, [1])
    tree.submit([0], 1)
    arguments = {
        "trees": [tree],
        "candidates": np.zeros((1, 2), np.int32),
        "parents": np.zeros((1, 2), np.int32),
        "n_nodes": np.zeros(1, np.int32),
        "draw": np.zeros((1, 2), np.uint8),
    }
    write_questions(**arguments)
    with pytest.raises(ValueError, match="expected"):
        write_questions(**arguments | {name: value})


def test_reroot_at_a_winner_keeps_its_subtree_relative_to_it():
    tree = Tree(0)
    first, second = grow(tree, 0, [1, 2], [0.5, 0.25])
    grow(tree, first, [3])
    below = grow(tree, second, [5, 6], [0.25, 0.125])
    grow(tree, below[1], [7])
    assert tree.keep([0], second) == ([0, 2, 3], 1)
    assert tree.reroot([0], second, 2) == (2, 0)
    assert tree.token.tolist() == [2, 5, 6, 7]
    assert tree.parent.tolist() == [-1, 0, 0, 2]
    assert tree.depth.tolist() == [0, 1, 1, 2]
    assert tree.slot.tolist() == [0, -1, 1, -1]
    assert tree.estimate.tolist() == [1, 0.25, 0.125, 0.0625]
    assert tree.on_main_line.tolist() == [True, True, False, False]
    assert (tree.children(0), tree.children(2)) == ([1, 2], [3])


def test_reroot_after_a_miss_starts_afresh():
    tree = Tree(0)
    first, _ = grow(tree, 0, [1, 2])
    grow(tree, first, [3])
    tree.submit([0, first], 2)
    assert tree.keep([0, first], -1) == ([0, 1], 2)
    assert tree.reroot([0, first], -1, 9) == (1, 1)  # 3 and 2
    assert (tree.token.tolist(), tree.slot.tolist()) == ([9], [-1])
    assert (tree.submitted, tree.children(0)) == ([], [])


def test_a_winner_of_another_token_is_refused():
    tree = Tree(0)
    grow(tree, 0, [1])
    with pytest.raises(ValueError, match="reroot: token: expected 1, the winner's, got 2"):
        tree.reroot([0], 1, 2)


@pytest.mark.parametrize(
    ("path", "winner"),
    [([], -1), ([1], -1), ([0, 3], -1), ([0, 1, 0], -1), ([0], 3), ([0, 1], 2), ([0], 99),
     ([99], -1), ([0], -2), ([0, 0], -1)],
)  # fmt: skip
def test_a_walk_leads_down_from_the_root(path, winner):
    tree = Tree(0)
    first, _ = grow(tree, 0, [1, 2])
    grow(tree, first, [3])
    for what, call in (
        ("teach", lambda: tree.teach(path, winner, Reliability())),
        ("keep", lambda: tree.keep(path, winner)),
        ("reroot", lambda: tree.reroot(path, winner, 5)),
    ):
        with pytest.raises(ValueError, match=f"^{what}: expected"):
            call()
    assert len(tree) == 4


@pytest.mark.parametrize("node", [-1, 3, 2**31 - 1])
@pytest.mark.parametrize("name", ["children", "main_line", "path", "expandable"])
def test_what_is_no_node_is_refused(name, node):
    tree = Tree(0)
    grow(tree, 0, [1, 2])
    with pytest.raises(ValueError, match=rf"{name}: expected ids of nodes, 0 to 2, got {node}"):
        getattr(tree, name)(node)


def test_arguments_of_a_tree_are_checked():
    with pytest.raises(ValueError, match="coupling: expected gumbel or rejection, got greedy"):
        Tree(0, coupling="greedy")
    with pytest.raises(ValueError, match="ends: expected a sequence of integers, got"):
        Tree(0, ends={"x"})
    with pytest.raises(ValueError, match="frontier: count: expected an integer >= 0, got -1"):
        Tree(0).frontier(-1)


def test_matched_guesses_need_no_draft():
    tree = Tree(0)
    (first,) = tree.match(0, [5], [0.9])
    (second,) = tree.match(first, [6], [0.5])
    assert tree.slots([0, first, second]) == [-1, -1, -1]
    assert tree.estimates([first, second]) == pytest.approx([0.9, 0.45])
    assert tree.main_line() == [0, first, second]
    assert tree.first_guess(0) == -1
    assert tree.submit([0, first, second], 9) == [0, first, second]
    assert tree.keep([0, first], second) == ([], 0), "the draft has all of it to catch up on"
    tree.reroot([0, first], second, 6)
    assert (tree.token.tolist(), tree.estimate.tolist()) == ([6], [1.0])


def test_a_node_is_expanded_behind_those_above_it():
    tree = Tree(0)
    (first,) = tree.match(0, [5], [0.9])
    (second,) = tree.match(first, [6], [0.5])
    assert tree.growable([second], 9) == [0, first, second]
    assert tree.growable([second], 2) == [0, first]
    assert tree.draft_rows([0, first, second]) == ([0, 5, 6], [-1, 0, 1])
    with pytest.raises(ValueError, match="expand: expected nodes behind their parents, got node 1"):
        grow(tree, first, [7])


def test_a_token_that_both_guess_is_one_child():
    tree = Tree(0)
    wrong, right = tree.match(0, [5, 6], [0.9, 0.05])
    (below,) = tree.match(right, [8], [1.0])
    grow(tree, 0, [6, 7], [0.9, 0.05])
    by_token = dict(zip(tree.tokens(tree.children(0)), tree.children(0), strict=True))
    assert by_token == {6: right, 7: 4, 5: wrong}
    assert tree.first_guess(0) == right
    odds = (0.9 / 0.1 * 0.05 / 0.95) ** 0.5
    assert tree.estimates([right, wrong]) == pytest.approx([odds / (1 + odds), 0.05 * 0.9])
    assert tree.estimates([below]) == tree.estimates([right])
    assert tree.rank[[right, wrong, 4]].tolist() == [0, -1, 1]


def test_draws_stay_in_order_before_matched_guesses():
    tree = Tree(0, coupling="rejection")
    wrong, drawn = tree.match(0, [5, 6], [0.99, 0.5])
    grow(tree, 0, [7, 6], [0.5, 0.5])
    children = tree.children(0)
    assert tree.tokens(children) == [7, 6, 5]
    assert children[1:] == [drawn, wrong]
    assert tree.draw[children].tolist() == [1, 2, 0]


def test_what_does_not_match_is_refused():
    tree = Tree(0, ends={3})
    (end,) = tree.match(0, [3], [0.5])
    assert tree.growable([end], 5) == []  # nothing is expanded for what cannot be
    for node, chances, wanted in (
        (end, [1.0], "match: expected no terminal node"),
        (7, [1.0], "match: expected ids of nodes"),
        (0, [1.0, 2.0], "match: chances: expected 1, one a token, got 2"),
    ):
        with pytest.raises(ValueError, match=wanted):
            tree.match(node, [4], chances)
    assert len(tree) == 2
