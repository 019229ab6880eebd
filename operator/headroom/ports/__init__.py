"""What the reconcilers need from the world, as small protocols."""
