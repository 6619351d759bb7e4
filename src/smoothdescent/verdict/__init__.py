"""The verdict on the paper's findings: fifteen statements, each decided from the tables."""
