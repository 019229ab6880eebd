"""The world: the only rooms that may import a driver."""
