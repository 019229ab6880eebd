"""`make demo`: the main job with real input, to watch, and a verdict at the end."""
