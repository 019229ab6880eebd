"""Headroom keeps queue workers and PostgreSQL read replicas ahead of their load."""

__version__ = "0.1.0"
