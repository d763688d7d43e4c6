"""H-RAD: foresees, from the target's hidden states, how much of the next block will hold."""
