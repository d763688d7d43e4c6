"""The figures of a request, and how each is defined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from itertools import zip_longest
from statistics import fmean
from typing import Literal

from specbranch.trace import Label, Trace, busy, overlap
from specbranch.tree import Tree, Walk

# How a token came to be committed: a guess that was submitted and right; the target's own choice,
# which a branch had guessed already; or that choice where nothing had guessed it.
Origin = Literal["accepted", "won", "missed"]


@dataclass(slots=True)
class Stats:
    """Counts of one request; the figures are properties.

    Drafted tokens are counted once their fate is decided: accepted or discarded. Those that the
    request's end leaves undecided count as neither.
    """

    wall_s: float = 0.0  # seconds of the lanes' clock, prefill included
    first_token_s: float = 0.0  # those of them until the first token was committed
    hrad_s: float = 0.0  # those of H-RAD's classifier among them
    tokens: int = 0  # committed, the prompt excluded
    target_forwards: int = 0  # prefill excluded
    draft_forwards: int = 0  # prefill excluded
    drafts: int = 0  # target forwards that verified guesses
    submitted: int = 0  # guesses in these, whether the walk came to them or not
    submitted_accepted: int = 0  # of those, the committed ones
    hits: int = 0  # rounds that ended on a token in the tree
    tested: int = 0  # main-line guesses that the walk came to
    tested_accepted: int = 0
    accepted_main: int = 0  # drafted on the main line and committed
    accepted_branch: int = 0  # drafted off it and committed
    accepted_matched: int = 0  # of both, those that the text's repetitions told beside a draft
    discarded_main: int = 0
    discarded_branch: int = 0
    overlap: float = 0.0  # share of the draft's busy time during which the target is busy
    draft_busy_s: float = 0.0  # seconds of the draft's decoding forwards
    cost_ratio: float = 0.0  # c: mean target forward over mean draft step
    accepted_lengths: list[int] = field(default_factory=list)  # tokens committed, a round each
    origins: list[Origin] = field(default_factory=list)  # of each committed token
    tested_at: list[int] = field(default_factory=list)  # `tested`, by depth below the root from 1
    accepted_at: list[int] = field(default_factory=list)  # `tested_accepted`, likewise

    @classmethod
    def pooled(cls, parts: Sequence[Stats]) -> Stats:
        """The stats of many requests as if they were one.

        Counts and seconds are sums, overlap is weighted by the draft's busy time, c is a mean over
        those that drafted.
        Raises ValueError for no request.
        """
        if not parts:
            raise ValueError("pooled: parts: expected the stats of at least one request, got none")
        total = cls()
        for name in _SUMS:
            setattr(total, name, sum(getattr(part, name) for part in parts))
        if total.draft_busy_s:
            shared = sum(part.overlap * part.draft_busy_s for part in parts)
            total.overlap = shared / total.draft_busy_s
        known = [part.cost_ratio for part in parts if part.cost_ratio]
        total.cost_ratio = fmean(known) if known else 0.0
        total.accepted_lengths = [n for part in parts for n in part.accepted_lengths]
        total.origins = [origin for part in parts for origin in part.origins]
        total.tested_at = _sum_by_place(part.tested_at for part in parts)
        total.accepted_at = _sum_by_place(part.accepted_at for part in parts)
        return total

    @property
    def tokens_per_s(self) -> float:
        return _ratio(self.tokens, self.wall_s)

    @property
    def pace(self) -> float:
        """Tokens a second after the first of them were there."""
        later = self.tokens - sum(self.accepted_lengths[:1])
        return _ratio(later, self.wall_s - self.first_token_s)

    @property
    def hrad_share(self) -> float:
        """Share of the time that goes to H-RAD's classifier."""
        return _ratio(self.hrad_s, self.wall_s)

    @property
    def mean_accepted_length(self) -> float:
        """M: tokens committed per target forward."""
        return _ratio(self.tokens, self.target_forwards)

    @property
    def acceptance_rate(self) -> float:
        """Of the main-line guesses that the walk came to, the share that was right."""
        return _ratio(self.tested_accepted, self.tested)

    @property
    def acceptance_by_position(self) -> list[float]:
        """The acceptance rate of the first guesses below the root, of those below these, and on.

        Each among the guesses at that depth that a walk came to.
        """
        return list(map(_ratio, self.accepted_at, self.tested_at))

    @property
    def hit_rate(self) -> float:
        """Share of rounds whose last token was in the tree."""
        return _ratio(self.hits, self.target_forwards)

    @property
    def rollback_rate(self) -> float:
        """Discarded over drafted tokens, on the main line (the draft's first choices)."""
        return _ratio(self.discarded_main, self.discarded_main + self.accepted_main)

    @property
    def rolled_back_per_token(self) -> float:
        """Main-line tokens discarded for each token committed."""
        return _ratio(self.discarded_main, self.tokens)

    @property
    def branch_waste(self) -> float:
        """Discarded over drafted tokens, off the main line."""
        return _ratio(self.discarded_branch, self.discarded_branch + self.accepted_branch)

    @property
    def discarded_rate(self) -> float:
        """Discarded over drafted tokens, wherever they grew."""
        discarded = self.discarded_main + self.discarded_branch
        return _ratio(discarded, discarded + self.accepted_main + self.accepted_branch)

    def finish(self, wall_s: float, trace: Trace) -> None:
        """Set what only the whole request's time tells."""
        self.wall_s = wall_s
        self.hrad_s = trace.seconds(Label.HRAD)
        self.overlap = overlap(trace.spans, "draft", "target")
        self.draft_busy_s = sum(end - start for start, end in busy(trace.spans, "draft"))
        self.cost_ratio = trace.cost_ratio()

    def count_walk(self, tree: Tree, walk: Walk, committed: int) -> None:
        """Count a target forward and its walk through the tree.

        committed: tokens of the walk that were committed, fewer than its length where one of them
            ended the request; guesses beyond it count as neither accepted nor tested.
        """
        guesses = max(0, len(tree.submitted) - 1)
        self.target_forwards += 1
        self.drafts += guesses > 0
        self.submitted += guesses
        self.submitted_accepted += min(committed, len(walk.path) - 1)
        self.tokens += committed
        self.accepted_lengths.append(committed)
        self.hits += walk.winner >= 0 and committed == len(walk.path)
        self.origins += origins(walk)[:committed]
        path = walk.path[:committed]
        reached_by = [*walk.path[1:], walk.winner][:committed]
        in_tree = [node for node in reached_by if node >= 0]
        self.accepted_matched += sum(rank < 0 for rank in tree.ranks(in_tree))
        on_main_line = True
        moves = zip(reached_by, tree.first_children(path), strict=False)
        for place, (reached, first_choice) in enumerate(moves):
            on_main_line = on_main_line and reached == first_choice
            if first_choice >= 0:
                self._count_tested(place, reached == first_choice)
            if reached >= 0:
                self.accepted_main += on_main_line
                self.accepted_branch += not on_main_line

    def _count_tested(self, place: int, right: bool) -> None:
        """Count the main-line guess at depth `place + 1`."""
        self.tested += 1
        self.tested_accepted += right
        for counts in (self.tested_at, self.accepted_at):
            counts += [0] * (place + 1 - len(counts))
        self.tested_at[place] += 1
        self.accepted_at[place] += right

    def count_dropped(self, on_main_line: int, off_it: int) -> None:
        """Count the nodes that left the tree with a re-rooting, the committed path excepted."""
        self.discarded_main += on_main_line
        self.discarded_branch += off_it


def origins(walk: Walk) -> list[Origin]:
    """Those of a walk's tokens, the one that ended it the last."""
    accepted: list[Origin] = ["accepted"] * (len(walk.path) - 1)
    return [*accepted, "won" if walk.winner >= 0 else "missed"]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _sum_by_place(lists: Iterable[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip_longest(*lists, fillvalue=0)]


_SUMS = [
    each.name
    for each in fields(Stats)
    if each.default_factory is MISSING and each.name not in ("overlap", "cost_ratio")
]
