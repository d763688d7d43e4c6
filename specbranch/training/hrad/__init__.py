"""Training H-RAD's classifier: examples from a pair's own texts, and how well it does."""
