"""Images and labels: from a source to one file per data set, and to an experiment's tensors."""
