"""Probes of queues in PostgreSQL: our SQL for known libraries, the user's own for all else."""
