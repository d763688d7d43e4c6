"""The decoding benchmark, a part a file; `bench/decode.py` is its command."""
