"""How tokens and the lanes' work look in every picture, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass

from specbranch.trace import Label

LANES = ("draft", "target")
# How a committed token came; see `Stats.origins`.
ORIGIN_COLORS = {"accepted": "#2e9e6b", "won": "#8458c9", "missed": "#d9822b"}
ORIGIN_WORDS = {
    "accepted": "submitted and accepted",
    "won": "guessed by a branch while the target worked",
    "missed": "nobody had guessed it",
}


@dataclass(frozen=True, slots=True)
class Style:
    """How a kind of work looks. Neighbours alternate between two shades, so that steps show."""

    name: str
    shades: tuple[str, str]  # in a picture
    color: str  # on a terminal
    glyphs: str  # on a terminal, one for each shade: legible without colours too


STYLES = {
    Label.DRAFT: Style("draft step", ("#2a9fd6", "#7cc8ee"), "cyan", "█▓"),
    Label.TARGET: Style("target forward", ("#c2478f", "#e08abb"), "magenta", "█▓"),
    Label.PREFILL: Style("prefill", ("#8a8f98", "#8a8f98"), "bright_black", "░░"),
    Label.VERIFY: Style("verify", ("#f2b134", "#f2b134"), "bright_yellow", "┃┃"),
    Label.HRAD: Style("H-RAD", ("#7a5cc2", "#7a5cc2"), "blue", "▒▒"),
    Label.COMMIT: Style("commit", ("#4caf50", "#4caf50"), "green", "││"),
}
OTHER = Style("other work", ("#b8bcc2", "#b8bcc2"), "white", "··")  # of any other label
