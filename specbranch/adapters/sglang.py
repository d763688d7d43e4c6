"""SGLang's tree functions over our ops, with the schemas of its `sglang.kernels.ops.speculative`.

B requests of N draft tokens each, the last committed token first. What SGLang calls retrive_index
int64 [B, N] is the place of each of them in its flat tensors; retrive_next_token int64 [B, N] is
its first child and retrive_next_sibling its next sibling, or -1; children come after their parents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specbranch import _C
from specbranch.checks import require

FULL_MASK, QLEN_ONLY = 0, 1  # of SGLang's TreeMaskMode


def build_tree_kernel_efficient(
    parent_list: Tensor,
    selected_index: Tensor,
    verified_seq_len: Tensor,
    tree_mask: Tensor,
    positions: Tensor,
    retrive_index: Tensor,
    retrive_next_token: Tensor,
    retrive_next_sibling: Tensor,
    topk: int,
    depth: int,
    draft_token_num: int,
    tree_mask_mode: int,
) -> None:
    """The tree that EAGLE selected, as a mask, positions and links.

    selected_index int64 [B, N - 1], rising: which candidates, of topk below each parent, became
    draft tokens. parent_list int64 [B, P]: the candidate that is each parent, the root's entry
    first. verified_seq_len int64 [B].
    Mutates tree_mask, flat: of each row the N draft tokens, in FULL_MASK (0) behind those of the
    context, which stay; positions int64 [B * N]; retrive_*.
    Raises ValueError for another mode.
    """
    known = int(tree_mask_mode) in (FULL_MASK, QLEN_ONLY)
    require("tree_mask_mode", "FULL_MASK or QLEN_ONLY", tree_mask_mode, known)
    batch, nodes = len(verified_seq_len), draft_token_num
    parents = _selected_parents(parent_list, selected_index, topk)
    sizes = _sizes(batch, nodes, parents.device)
    mask, depths = _C.tree_mask(parents.int(), *sizes, batch * nodes)
    node = torch.arange(nodes, device=parents.device)
    bits = (mask[:, node // 32] >> (node % 32)) & 1
    context = verified_seq_len * (tree_mask_mode == FULL_MASK)
    before = nodes * (context.cumsum(0) - context + nodes * torch.arange(batch, device=node.device))
    rows = before[:, None] + (context + nodes)[:, None] * node + context[:, None]
    tree_mask[rows.flatten()[:, None] + node] = bits.to(tree_mask.dtype)
    positions.copy_(depths + verified_seq_len.repeat_interleave(nodes))
    retrive_index.copy_(torch.arange(batch * nodes, device=node.device).view(batch, nodes))
    is_child = parents[:, None, :] == node[:, None]  # [B, parent, child]
    retrive_next_token.copy_(_first(is_child))
    later = node > node[:, None]
    siblings = (parents[:, None, :] == parents[:, :, None]) & later
    retrive_next_sibling.copy_(_first(siblings))


def verify_tree_greedy(
    predicts: Tensor,
    accept_index: Tensor,
    accept_token_num: Tensor,
    candidates: Tensor,
    retrive_index: Tensor,
    retrive_next_token: Tensor,
    retrive_next_sibling: Tensor,
    target_predict: Tensor,
) -> None:
    """Walk down each tree as long as the target's choice is a child.

    candidates int64 [B, N]; target_predict int64 [B, N] or flat, the choice at each draft token.
    Mutates, of those on the walk, predicts int32 [B * N], the token after each; accept_index int32
    [B, S], their places, S at most; accept_token_num int32 [B], how many there are behind the root.
    """
    choices = target_predict.view(candidates.shape)
    nodes = candidates.shape[1]
    # A token goes by the first draft token that is alike: N + 1 of them stand for a vocabulary.
    alike, chosen = (_alike(tokens, candidates) for tokens in (candidates, choices))
    logits = torch.nn.functional.one_hot(chosen, nodes + 1).float().flatten(0, 1)
    seed = torch.zeros(len(candidates), dtype=torch.int64, device=candidates.device)
    parents = _linked_parents(retrive_next_token, retrive_next_sibling)
    path, *_ = _walk(alike, parents, logits, 0.0, seed)
    following = choices.gather(1, path.clamp(min=0))
    _tell(predicts, accept_index, accept_token_num, retrive_index, path, following)


def tree_speculative_sampling_target_only(
    predicts: Tensor,
    accept_index: Tensor,
    accept_token_num: Tensor,
    candidates: Tensor,
    retrive_index: Tensor,
    retrive_next_token: Tensor,
    retrive_next_sibling: Tensor,
    uniform_samples: Tensor,
    uniform_samples_for_final_sampling: Tensor,
    target_probs: Tensor,
    draft_probs: Tensor,
    threshold_single: float = 1.0,
    threshold_acc: float = 1.0,
    deterministic: bool = True,
) -> None:
    """Walk down each tree as long as what is drawn from target_probs float32 [B, N, V] is a child.

    Tokens have the target's law, and walks the lengths of SGLang's. What is drawn is decided by
    uniform_samples float32 [B, N] and uniform_samples_for_final_sampling float32 [B], though not
    as SGLang's own kernel decides it. draft_probs and deterministic change nothing.
    Mutates as verify_tree_greedy does; a row of NaN gives the token -1.
    Raises ValueError for thresholds other than 1, whose texts have another law.
    """
    for name, value in (("threshold_single", threshold_single), ("threshold_acc", threshold_acc)):
        require(name, "1, as others change the law of texts", value, value == 1)
    coins = torch.stack([uniform_samples[:, 0], uniform_samples_for_final_sampling]).float()
    low, high = coins.view(torch.int32).long()
    parents = _linked_parents(retrive_next_token, retrive_next_sibling)
    logits = target_probs.float().log().flatten(0, 1)
    path, path_len, next_token = _walk(candidates, parents, logits, 1.0, high << 32 | low)
    after = path.roll(-1, 1).clamp(min=0)
    last = torch.arange(path.shape[1], device=path.device) == path_len[:, None] - 1
    following = torch.where(last, next_token[:, None], candidates.gather(1, after))
    _tell(predicts, accept_index, accept_token_num, retrive_index, path, following)


def _sizes(batch: int, nodes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """n_nodes and row_indptr of requests whose rows are all their nodes."""
    row_indptr = nodes * torch.arange(batch + 1, dtype=torch.int32, device=device)
    return torch.full((batch,), nodes, dtype=torch.int32, device=device), row_indptr


def _walk(
    tokens: Tensor, parents: Tensor, logits: Tensor, temperature: float, seed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The path int64 [B, N], its length and the next token of each request, as the target draws."""
    batch, nodes = tokens.shape

    def each(value: float, dtype: torch.dtype) -> Tensor:
        return torch.full((batch,), value, dtype=dtype, device=tokens.device)

    path, path_len, next_token, *_ = _C.verify_tree(
        tokens.int(),
        parents.int(),
        *_sizes(batch, nodes, tokens.device),
        logits,
        each(temperature, torch.float32),
        each(0, torch.int32),
        each(1.0, torch.float32),
        each(0.0, torch.float32),
        seed,
        each(0, torch.int32),
    )
    return path.long(), path_len, next_token.long()


def _tell(
    predicts: Tensor,
    accept_index: Tensor,
    accept_token_num: Tensor,
    retrive_index: Tensor,
    path: Tensor,
    following: Tensor,
) -> None:
    """Write what came of walks. following [B, N]: the token after each node of a path."""
    most = min(accept_index.shape[1], path.shape[1])
    accepted = path[:, :most] >= 0
    count = (accepted.sum(1) - 1).clamp(min=0)
    # Behind the end its last node is told again: a fixed number of writes, and no waiting.
    at = torch.arange(most, device=path.device).minimum(count[:, None])
    places = retrive_index.gather(1, path.gather(1, at).clamp(min=0))
    predicts.scatter_(0, places.flatten(), following.gather(1, at).flatten().to(predicts.dtype))
    told = accept_index[:, :most]
    told.copy_(torch.where(accepted, places.to(told.dtype), told))
    accept_token_num.copy_(count)


def _selected_parents(parent_list: Tensor, selected_index: Tensor, topk: int) -> Tensor:
    """int64 [B, N]: of each draft token, from EAGLE's numbers of candidates."""
    group = selected_index // topk
    parent = parent_list.gather(1, group)
    place = 1 + (selected_index[:, None, :] == parent[:, :, None]).int().argmax(2)
    root = torch.full_like(place[:, :1], -1)
    return torch.cat([root, torch.where(group == 0, 0, place)], dim=1)


def _linked_parents(next_token: Tensor, next_sibling: Tensor) -> Tensor:
    """int64 [B, N]: those whose first child, or a later sibling of it, is the node."""
    node = torch.arange(next_token.shape[1], device=next_token.device)
    first = (next_token[:, :, None] == node).float()
    reached = (next_sibling[:, :, None] == node).float() + torch.eye(len(node), device=node.device)
    for _ in range(len(node).bit_length()):  # each time twice as far along the siblings
        reached = (reached @ reached).clamp(max=1)
    return _first((first @ reached).transpose(1, 2) > 0)


def _alike(tokens: Tensor, candidates: Tensor) -> Tensor:
    """The first candidate of the request that is the token, or N."""
    found = _first(tokens[:, :, None] == candidates[:, None, :])
    return torch.where(found < 0, candidates.shape[1], found)


def _first(holds: Tensor) -> Tensor:
    """The first place along the last dimension where something holds, or -1."""
    return torch.where(holds.any(-1), holds.int().argmax(-1), -1)
