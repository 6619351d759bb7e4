"""Studies side by side: what differs in their settings, findings and curves."""
