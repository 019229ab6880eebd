"""The outside world: only these packages may import a driver."""
