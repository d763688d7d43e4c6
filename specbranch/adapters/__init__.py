"""SpecBranch inside other engines."""
