"""The published study as a baseline: its figures, and its answers as runs."""
