# The speculation tree of a request: arrays of plain numbers behind node ids, and what verification
# taught about guesses. Bad arguments raise ValueError and leave the tree as it was.

class Reliability:
    """The chance that a guess is right, by its rank and its prior chance: the draft's own
    estimates, corrected by what was verified (see Tree.teach).

    Of first guesses each bucket of prior chances knows how many were tested and how many held: the
    chance is the posterior mean of that rate, under a Beta prior that is worth `strength` guesses
    and has the guess's own prior chance as its mean.

    Further guesses share what the first one leaves. Their prior chances reach from tenths to almost
    nothing and are scaled by (right + s) / (expected + s): right counts those that held, expected
    sums the chances that the prior gave them. This is the posterior mean of a Poisson rate under a
    Gamma prior of mean 1.

    Both are defined from the start, and keep the order of guesses within a bucket.
    """

    def __init__(self, coupling: str = "gumbel", strength: float = 3.0) -> None: ...
    def priors(self, estimates: Sequence[float]) -> list[float]:
        """Prior chances of a node's guesses from the draft's estimates.

        Of ranked guesses (gumbel) they are the estimates, 1 at most. Drawn ones (rejection) are
        tested one after another, and a draw of small probability is far more often right than that
        says: of a token whose q is near zero the target's p is mostly larger.
        """

    def chances(self, priors: Sequence[float]) -> list[float]:
        """Chances of a node's guesses, best (or first drawn) first, from their prior chances.

        At most one guess is right, so they sum to 1 at most, and each is at most 1.
        """

class Tree:
    """The speculation tree of one request: guessed continuations of the last committed token, its
    root, re-rooted every round at the newest one.

    Nodes are numbered in the order in which they joined: the root is 0, parents come before their
    children, and siblings follow each other. An id holds until the next reroot, which closes the
    gaps. A node is expanded once the draft has computed its law and its KV; only then does it have
    children. A terminal node ends the request if it is reached: it is never expanded or submitted.

    ends: tokens that end the request. remaining: tokens that may still be committed; a guess at
    this depth ends the request too. Both say so of nodes when they are attached.
    """

    def __init__(
        self,
        root_token: int,
        *,
        coupling: str = "gumbel",
        ends: Collection[int] = (),
        remaining: int = 2**31 - 1,
    ) -> None: ...
    remaining: int
    num_expanded: int

    # Columns: a fresh copy at each access, with a value for each node.
    @property
    def token(self) -> NDArray[np.int32]: ...
    @property
    def parent(self) -> NDArray[np.int32]:
        """-1 of the root."""

    @property
    def depth(self) -> NDArray[np.int32]:
        """Edges from the root."""

    @property
    def slot(self) -> NDArray[np.int32]:
        """Place in the draft's block, -1 while unexpanded."""

    @property
    def first_child(self) -> NDArray[np.int32]:
        """The draft's first choice, -1 without children."""

    @property
    def estimate(self) -> NDArray[np.float64]:
        """Chance that decoding passes through a node, given the root; never above its parent's."""

    @property
    def prior(self) -> NDArray[np.float64]:
        """Chance of a guess given its parent, before reliability."""

    @property
    def max_prob(self) -> NDArray[np.float64]:
        """Maximum of the draft's law at a node, 0 while unexpanded."""

    @property
    def first_chance(self) -> NDArray[np.float64]:
        """Chance that the first guess at a node is right, 0 while unexpanded; under rejection
        max_prob, for there a fan may not look at the draws."""

    @property
    def entropy(self) -> NDArray[np.float64]:
        """Of the draft's law at a node, in nats, 0 while unexpanded."""

    @property
    def draw(self) -> NDArray[np.uint8]:
        """n for the n-th draw from the parent's law, 0 for a deterministic guess."""

    @property
    def on_main_line(self) -> NDArray[np.bool_]:
        """Whether a node was the draft's first choice all the way from the root."""

    @property
    def terminal(self) -> NDArray[np.bool_]: ...
    def __len__(self) -> int:
        """Nodes."""

    @property
    def submitted(self) -> list[int]:
        """The nodes that the target is working on, in the order of its rows; [] while idle."""

    def children(self, node: int) -> list[int]:
        """In the draft's ranking, best first."""

    def main_line(self, top: int = 0) -> list[int]:
        """`top` and the draft's first choices below it."""

    def path(self, node: int) -> list[int]:
        """The nodes from below the root down to `node`."""

    def expandable(self, node: int) -> bool:
        """Whether the draft could expand it: neither expanded nor terminal."""

    def frontier(self, count: int) -> list[int]:
        """The `count` expandable nodes of highest estimate, likeliest first, ties by id."""

    def likeliest(self, count: int) -> list[int]:
        """The `count` nodes of highest estimate that could be submitted, likeliest first, ties by
        id: a subtree at the root, parents first, for estimates never grow along a path."""

    def growable(self, nodes: Sequence[int], limit: int) -> list[int]:
        """The first `limit` of `nodes` that are not terminal.

        Raises ValueError unless all of them are distinct and unexpanded.
        """

    def expand(
        self,
        nodes: Sequence[int],
        first_slot: int,
        ids: NDArray[np.int32],
        estimates: NDArray[np.float32],
        max_prob: NDArray[np.float32],
        entropy: NDArray[np.float32],
        first_row: int,
        reliability: Reliability,
    ) -> None:
        """Note what a draft step says of `nodes`, as `draft_topk` gives it for R rows.

        The i-th node takes slot first_slot + i and row first_row + i: ids and estimates [R, k],
        where -1 ends the guesses, max_prob and entropy [R]; all contiguous, k up to 255; NaN counts
        as 0. The guesses wait for `attach`; those of an earlier step that still wait are dropped.
        """

    def attach(self, fans: Sequence[int]) -> None:
        """The first fans[i] guesses of the i-th node of the last `expand` become its children."""

    def submit(self, nodes: Sequence[int], max_rows: int) -> list[int]:
        """Take as the target's rows the first `max_rows` of `nodes` that are not terminal.

        Raises ValueError unless these are a subtree at the root, parents first.
        """

    def rows(self) -> tuple[list[int], list[int]]:
        """Tokens of the submitted nodes and their parents' rows, -1 for the root."""

    def draft_rows(self, nodes: Sequence[int]) -> tuple[list[int], list[int]]:
        """Tokens of the nodes and their parents' slots, -1 for the root."""

    def question_size(self) -> int:
        """Nodes that verification asks about: the submitted ones and their other children."""

    def answer(self, path: Sequence[int], winner: int) -> tuple[list[int], int]:
        """The walk that `verify_tree` found, its path and its winner or -1, in node ids.

        The arguments are places in the order that `write_questions` wrote. The other methods take
        a walk in node ids.
        """

    def teach(self, path: Sequence[int], winner: int, reliability: Reliability) -> None:
        """Teach how the guesses at the nodes of the path turned out: all of them were tested."""

    def keep(self, path: Sequence[int], winner: int) -> tuple[list[int], int]:
        """Slots that the draft keeps, strictly increasing, and how many of them are context.

        These are the path's expanded nodes; what follows lives on below the winner.
        """

    def reroot(self, path: Sequence[int], winner: int, token: int) -> tuple[int, int]:
        """Make `winner`, or a fresh node for `token` if it is -1, the new root.

        What is below the winner lives on with new ids, depths and estimates relative to the new
        root, and slots from 0 on in their old order. The target is idle again. Returns how many
        nodes were dropped on the main line and off it, the path excepted.
        """

def write_questions(
    trees: Sequence[Tree],
    candidates: NDArray[np.int32],
    parents: NDArray[np.int32],
    n_nodes: NDArray[np.int32],
    draw: NDArray[np.uint8],
) -> None:
    """Write what `verify_tree` is asked about each tree: its submitted nodes in the order of their
    rows, then their other children by parent's row and rank.

    Mutates candidates, parents (places in this order) and draw [B, N] in the first rows and
    columns, and n_nodes [B], which becomes 0 for requests beyond the trees; all contiguous.
    """
