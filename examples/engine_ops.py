"""One speculative round on the ops alone, as an engine with its own models would run it.

Three guesses hang below the last committed token; the target's logits decide which way to go,
and the cache is rolled back to that path in place.
"""

import torch

import specbranch._C as sb

torch.manual_seed(0)
layers, pages, page_size, num_kv_heads, num_qo_heads, head_dim, vocab = 2, 4, 16, 2, 4, 64, 1000
context = 20


def ints(*values):
    return torch.tensor(values, dtype=torch.int32)


k_caches = [torch.randn(pages, page_size, num_kv_heads, head_dim) for _ in range(layers)]
v_caches = [torch.randn(pages, page_size, num_kv_heads, head_dim) for _ in range(layers)]
block_table, context_lens = ints(2, 0, 3, 1)[None], ints(context)

# The tree: the root (the last committed token), two guesses below it, one more below the second.
# Each node is a row; those of further requests would follow, from row_indptr[1] on.
tokens = ints(11, 42, 77, 123)[None]
parents, n_nodes, row_indptr = ints(-1, 0, 0, 2)[None], ints(4), ints(0, 4)
ancestor_mask, depth = sb.tree_mask(parents, n_nodes, row_indptr, 4)
positions = context_lens + depth  # what RoPE sees; siblings share one

for layer in range(layers):
    k = v = torch.randn(4, num_kv_heads, head_dim)
    sb.append_kv_(k, v, k_caches[layer], v_caches[layer], block_table, context_lens, row_indptr)
    out, lse = sb.branch_attention(
        torch.randn(4, num_qo_heads, head_dim),
        k_caches[layer],
        v_caches[layer],
        block_table,
        context_lens,
        n_nodes,
        row_indptr,
        ancestor_mask,
        head_dim**-0.5,
    )

row_indptr = ints(0, 4)  # where the rows of each request begin
logits = torch.randn(4, vocab)
logits[0, 77] = logits[2, 123] = 50.0  # a target that agrees with the second guess
greedy = torch.zeros(1), ints(0), torch.ones(1), torch.zeros(1)
path, path_len, next_token, winner, status = sb.verify_tree(
    tokens, parents, n_nodes, row_indptr, logits, *greedy, torch.tensor([7]), context_lens + 1
)
sb.compact_kv_(k_caches, v_caches, block_table, context_lens, path, path_len)
context_lens += path_len

accepted = path[0, : int(path_len)].tolist()
print(f"accepted nodes {accepted}, next token {int(next_token)}, context {int(context_lens)}")
assert accepted == [0, 2, 3]
