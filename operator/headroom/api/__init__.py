"""The three kinds as typed models: the one source of schema, defaults, bounds and reference docs. No I/O."""
