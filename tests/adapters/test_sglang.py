"""SGLang's tree functions over our ops, beside what they mean and beside SGLang's own kernels."""

from __future__ import annotations

import importlib
import inspect
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from specbranch.adapters import sglang

B, N, V = 3, 8, 12


def trees(generator: torch.Generator) -> tuple[list[list[int]], Tensor]:
    """Parents of random trees, and tokens, distinct among siblings."""
    parents, tokens = [], torch.zeros(B, N, dtype=torch.int64)
    for b in range(B):
        own = [-1, *(int(torch.randint(0, i, (1,), generator=generator)) for i in range(1, N))]
        for parent in range(N):
            children = [i for i in range(N) if own[i] == parent]
            tokens[b, children] = torch.randperm(V, generator=generator)[: len(children)]
        parents.append(own)
    return parents, tokens


def links(parents: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    index = torch.arange(B * N).view(B, N)
    child, sibling = torch.full((B, N), -1), torch.full((B, N), -1)
    for b, own in enumerate(parents):
        last: dict[int, int] = {}
        for i in range(1, N):
            before = last.get(own[i])
            if before is None:
                child[b, own[i]] = i
            else:
                sibling[b, before] = i
            last[own[i]] = i
    return index, child, sibling


def outputs(most: int = N) -> tuple[Tensor, Tensor, Tensor]:
    predicts = torch.full((B * N,), -7, dtype=torch.int32)
    return predicts, torch.full((B, most), -1).int(), torch.zeros(B, dtype=torch.int32)


def liked(parents: list[list[int]], tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Choices [B, N] that often are a child of the node."""
    choices = torch.randint(0, V, (B, N), generator=generator)
    for b, own in enumerate(parents):
        for i in range(1, N):
            if torch.rand(1, generator=generator) < 0.5:
                choices[b, own[i]] = tokens[b, i]
    return choices


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("most", [N, 2])
def test_the_greedy_walk(seed: int, most: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    parents, tokens = trees(generator)
    choices = liked(parents, tokens, generator)
    predicts, accepted, counts = outputs(most)
    sglang.verify_tree_greedy(predicts, accepted, counts, tokens, *links(parents), choices.view(-1))
    wanted = torch.full((B * N,), -7)
    for b, own in enumerate(parents):
        walk = [0]
        while len(walk) < most and (
            on := [i for i in range(N) if own[i] == walk[-1] and tokens[b, i] == choices[b, own[i]]]
        ):
            walk += on
        assert accepted[b].tolist() == [b * N + i for i in walk] + [-1] * (most - len(walk))
        assert counts[b] == len(walk) - 1
        wanted[[b * N + i for i in walk]] = choices[b, walk]
    assert predicts.tolist() == wanted.tolist()


def test_sampled_walks_have_the_targets_law_and_use_the_tree() -> None:
    """Of the token after the root, and of the one after a guess that was drawn."""
    generator = torch.Generator().manual_seed(0)
    probs = torch.softmax(torch.randn(1, 3, 6, generator=generator), -1)
    calls, tokens = 4000, torch.tensor([[0, 1, 2]])
    many = [each.expand(calls, *each.shape[1:]).contiguous() for each in (tokens, probs)]
    index = torch.arange(calls * 3).view(calls, 3)
    child, sibling = torch.tensor([[1, -1, -1]]), torch.tensor([[-1, 2, -1]])
    predicts = torch.full((calls * 3,), -7, dtype=torch.int32)
    accepted, counts = torch.full((calls, 2), -1).int(), torch.zeros(calls, dtype=torch.int32)
    both = (child.expand(calls, 3), sibling.expand(calls, 3))
    coins = torch.rand(calls, 3, generator=generator), torch.rand(calls, generator=generator)
    outs = (predicts, accepted, counts)
    nothing = torch.zeros_like(many[1])
    sglang.tree_speculative_sampling_target_only(
        *outs, many[0], index, *both, *coins, many[1], nothing
    )
    said = predicts.view(calls, 3)
    first = torch.bincount(said[:, 0], minlength=6) / calls
    assert (first - probs[0, 0]).abs().sum() / 2 < 0.03
    for guess in (1, 2):
        drawn = said[:, 0] == guess
        assert torch.equal(accepted[drawn, 1].long(), index[drawn, guess])
        assert (counts[drawn] == 1).all()
        after = torch.bincount(said[drawn, guess], minlength=6) / drawn.sum()
        assert (after - probs[0, guess]).abs().sum() / 2 < 0.08
    missed = said[:, 0].ne(1) & said[:, 0].ne(2)
    assert (counts[missed] == 0).all()
    assert (accepted[missed, 1] == -1).all()


def test_a_law_that_is_another_is_refused() -> None:
    nothing = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="threshold_acc: expected 1"):
        sglang.tree_speculative_sampling_target_only(*[nothing] * 11, threshold_acc=0.5)
    with pytest.raises(ValueError, match="tree_mask_mode: expected FULL_MASK or QLEN_ONLY, got 2"):
        sglang.build_tree_kernel_efficient(*[nothing] * 8, 4, 3, 8, 2)


TOPK, STEPS = 4, 3


def selection(generator: torch.Generator) -> tuple[Tensor, Tensor, list[list[int]]]:
    """parent_list and selected_index as EAGLE numbers candidates, and the parents they mean."""
    lists, chosen, parents = [], [], []
    for _ in range(B):
        below = dict.fromkeys(range(TOPK), -1)
        own, level = [-1], list(range(TOPK))
        for step in range(1, STEPS):
            own += level
            base = TOPK + (step - 1) * TOPK * TOPK
            for place, parent in enumerate(level):
                below |= dict.fromkeys(
                    range(base + place * TOPK, base + (place + 1) * TOPK), parent
                )
            picked = torch.randperm(TOPK * TOPK, generator=generator)[:TOPK]
            level = sorted(base + int(each) for each in picked)
        tree: list[int] = []
        while len(tree) < N - 1:
            open_ = [c for c in below if c not in tree and below[c] in (-1, *tree)]
            tree.append(open_[int(torch.randint(0, len(open_), (1,), generator=generator))])
        tree.sort()
        lists.append(own)
        chosen.append(tree)
        parents.append([-1, *(0 if below[c] < 0 else 1 + tree.index(below[c]) for c in tree)])
    return torch.tensor(lists), torch.tensor(chosen), parents


def built(build, mode: int, selected: tuple[Tensor, Tensor]) -> list[Tensor]:
    """What a function makes of a selection."""
    lengths = torch.tensor([5, 9, 2])
    size = N * N * B + (N * int(lengths.sum()) if mode == sglang.FULL_MASK else 0)
    outs = [torch.ones(size, dtype=torch.bool), torch.zeros(B * N, dtype=torch.int64)]
    outs += [torch.full((B, N), -1) for _ in range(3)]
    build(*selected, lengths, *outs, TOPK, STEPS, N, mode)
    return outs


@pytest.mark.parametrize("seed", range(10))
def test_a_tree_is_built(seed: int) -> None:
    *selected, parents = selection(torch.Generator().manual_seed(seed))
    mask, positions, *linked = built(sglang.build_tree_kernel_efficient, 1, selected)
    assert all(map(torch.equal, linked, links(parents)))
    for b, own in enumerate(parents):
        for i in range(N):
            path = {node := i}
            while (node := own[node]) >= 0:
                path.add(node)
            assert mask.view(B, N, N)[b, i].nonzero().flatten().tolist() == sorted(path)
            assert positions[b * N + i] == [5, 9, 2][b] + len(path) - 1


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch):
    """SGLang's own in Triton's interpreter."""
    if find_spec("sglang") is None or find_spec("triton") is None:
        pytest.skip("sglang and triton are not installed (pip install --no-deps sglang triton)")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    return importlib.import_module("sglang.kernels.ops.speculative.spec_tree")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mode", [sglang.FULL_MASK, sglang.QLEN_ONLY])
def test_trees_are_built_as_sglangs_kernel_builds_them(kernels, seed: int, mode: int) -> None:
    *selected, _ = selection(torch.Generator().manual_seed(seed))
    theirs = built(kernels.sgl_build_tree_kernel_triton, mode, selected)
    assert all(map(torch.equal, built(sglang.build_tree_kernel_efficient, mode, selected), theirs))


@pytest.mark.parametrize("seed", range(10))
def test_greedy_walks_are_sglangs(kernels, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    parents, tokens = trees(generator)
    choices = liked(parents, tokens, generator).view(-1)
    results = []
    for verify in (kernels.verify_tree_greedy_triton, sglang.verify_tree_greedy):
        outs = outputs()
        verify(*outs, tokens, *links(parents), choices)
        results.append(outs)
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("tree", "build_tree_kernel_efficient"),
        ("tree", "verify_tree_greedy"),
        ("sampling", "tree_speculative_sampling_target_only"),
    ],
)
def test_schemas_are_sglangs(kernels, module: str, name: str) -> None:
    theirs = importlib.import_module(f"sglang.kernels.ops.speculative.{module}")
    wanted = inspect.signature(inspect.unwrap(getattr(theirs, name))).parameters
    got = inspect.signature(getattr(sglang, name)).parameters
    assert list(got) == list(wanted)
    assert [each.default for each in got.values()] == [each.default for each in wanted.values()]
