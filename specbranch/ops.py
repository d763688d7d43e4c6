"""The ops of SpecBranch, as registered with torch (`torch.ops.specbranch.*`).

Shapes, dtypes and what is mutated stand in their docstrings. Every op runs on CPU and CUDA tensors
(`packed_linear`, `quantized_linear` and `quantized_rows` on a CPU alone), works under
torch.compile, and raises ValueError for an argument of the wrong shape, dtype or device. `mix` and
the workspace sizes are plain functions of the host.
"""

from specbranch._C import *  # noqa: F403
