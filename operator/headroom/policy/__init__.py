"""Pure decisions: frozen facts, spec and `now` in, a value with its reason out."""
