"""Decisions about a set of replicas: stages, readiness, admission, how many, and what to do next. Pure."""
