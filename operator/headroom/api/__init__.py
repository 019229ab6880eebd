"""The three kinds as typed models: the one source of schema, defaults, bounds and reference docs. No I/O.

A newer schema adds optional fields, fields with a default, and rules. It never adds a required field to a part that
exists: an object that was stored before could then be neither scaled nor paused.
"""
