"""One pass of a WorkerPool."""
