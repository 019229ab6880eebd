"""gather, decide, apply: one level-based pass per resource."""
