"""Training: one run in segments, bit-identical whether or not it was interrupted."""
