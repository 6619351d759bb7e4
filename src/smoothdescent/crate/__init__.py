"""A finished study as an RO-Crate: what archives and reviewers ask for, with its description."""
