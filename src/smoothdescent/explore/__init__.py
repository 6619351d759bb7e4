"""One interactive page of a study, which needs no other file and no network."""
