"""Training: the same bits whether or not a run was interrupted."""
