"""Probes of queues in PostgreSQL: our SQL for known libraries, the user's own for all else."""

from headroom.adapters.postgres.queues.custom import CustomProbe
from headroom.adapters.postgres.queues.procrastinate import ProcrastinateProbe
from headroom.api.v1alpha1.queue import PostgresQueue, Preset
from headroom.errors import InvalidSpec
from headroom.ports.signals import QueueProbe, SqlRunner


class PostgresQueueProbes:
    """Implements `QueueProbes`."""

    def open(self, queue: PostgresQueue, runner: SqlRunner) -> QueueProbe:
        """See `QueueProbes.open`."""
        if queue.custom is not None:
            return CustomProbe(queue.custom, runner)
        if queue.preset is Preset.PROCRASTINATE:
            return ProcrastinateProbe(runner, queue.queues, queue.schema_name)
        remedy = "use preset procrastinate, or SQL of your own under custom"
        raise InvalidSpec("queue.postgres.preset", f"{queue.preset} is not supported yet", remedy)
