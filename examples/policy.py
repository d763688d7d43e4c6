"""A drafting policy of one's own. Other commands take it, too, from this folder:
`specbranch compare --methods policy:Hedge --option rows=12`."""

from collections.abc import Sequence

from specbranch import Engine, Policy, SamplingParams, load_pair
from specbranch._C import Tree


class Hedge(Policy):
    """Grow the likeliest nodes while the target is busy, with a fork where the draft is unsure."""

    overlaps = True
    max_fan = 2

    def __init__(self, width: int = 2, rows: int = 8, sure: float = 0.8) -> None:
        self.width, self.rows, self.sure = width, rows, sure

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        return tree.frontier(self.width) if busy else ()

    def fan(self, tree: Tree, nodes: Sequence[int]) -> Sequence[int]:
        return [1 if chance > self.sure else 2 for chance in tree.first_chances(nodes)]

    def submit(self, tree: Tree) -> Sequence[int]:
        return tree.likeliest(self.rows)


if __name__ == "__main__":
    pair = load_pair("builtin:smollm2", draft="self:int4")
    with Engine(pair, Hedge()) as engine:
        generation = engine.generate("Why is the sky blue?", SamplingParams(max_new_tokens=64))
    print(generation.text)
    print(f"{generation.stats.mean_accepted_length:.2f} tokens per target forward")
