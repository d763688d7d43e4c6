"""Small drafts trained on a target's own text, for targets that have no smaller sibling."""
