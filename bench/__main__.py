"""`make smoke`: ops, decoding and serving at their smallest, for function and not for figures."""

import shutil
import sys

from bench import decode, serve
from bench.ops import cli as ops

shutil.rmtree("build/smoke", ignore_errors=True)  # runs of another commit are no part of these
failed = ops.main(["--smoke"])
decode.main(["--smoke", "--out", "build/smoke/decode"])
few = ["--methods", "ar,auto", "--loads", "2"]
serve.main(["--smoke", *few, "--out", "build/smoke/serve"])
sys.exit(failed)
