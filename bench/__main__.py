"""`make smoke`: every benchmark at its smallest, for function and not for figures."""

from bench import decode, serve_mix
from bench.ops import cli as ops

ops.main(["--smoke"])
decode.main(["--smoke", "--out", "build/smoke/decode"])
serve_mix.main(["--smoke", "--out", "build/smoke/serve-mix"])
