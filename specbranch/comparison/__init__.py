"""Methods beside plain decoding, on one pair and the same prompts: runs, figures, tables."""
