"""The configuration: its schema, and how a scale's overlay is resolved."""
