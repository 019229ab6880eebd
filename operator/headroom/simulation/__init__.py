"""The same decisions over a discrete-event world."""
