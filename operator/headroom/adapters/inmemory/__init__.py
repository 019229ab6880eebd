"""The ports in memory: the same contract, for tests and simulation."""
