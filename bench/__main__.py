"""`make bench`: every ratio once, at a size that takes a few minutes."""

from bench import decode
from bench.ops import cli as ops

ops.main(["--targets"])
decode.main(["--prompts", "2", "--max-new-tokens", "64"])
