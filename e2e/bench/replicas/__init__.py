"""How long a new replica takes to its first read, by the way it is made, beside the same by hand; and what it costs."""
