"""Decisions about one database: its identity, its state, its connection budget, and who may use it. Pure."""
