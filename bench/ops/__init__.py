"""Every op against eager torch, other libraries and the memory's bandwidth: `python -m bench.ops`.

A case is an op at one shape; cases are built by `attention`, `kv`, `sampling` and `verify`, chosen
by `selection`, measured by `run`.
"""
