"""Frozen facts: what was measured and read, without I/O and without decisions."""
