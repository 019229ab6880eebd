"""One pass of a DatabaseGuard."""
