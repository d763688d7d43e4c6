"""Branch-parallel speculative decoding with exact output."""
