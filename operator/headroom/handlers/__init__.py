"""Kopf only: watch, wake, tear down; at most ten lines a function."""
