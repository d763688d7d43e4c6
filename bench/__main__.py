"""`make bench`: every ratio once, at a size that takes a few minutes."""

from bench import decode, ops

ops.main([])
decode.main(["--prompts", "2", "--max-new-tokens", "64"])
