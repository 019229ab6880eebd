"""Prometheus queries in bounded threads."""
