"""Tables of a whole experiment, gathered from those of its runs and checkpoints."""
