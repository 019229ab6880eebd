"""Probes of queues in PostgreSQL: our SQL for known libraries, the user's own for all else."""

from weakref import WeakKeyDictionary

from headroom.adapters.postgres.queues.custom import CustomProbe
from headroom.adapters.postgres.queues.job_times import JobTimes
from headroom.adapters.postgres.queues.procrastinate import ProcrastinateProbe
from headroom.adapters.postgres.queues.sharing import Connections, SharedQuestions
from headroom.api.v1alpha1.queue import PostgresQueue, Preset
from headroom.errors import InvalidSpec
from headroom.ports.signals import QueueProbe, SqlRunner


class PostgresQueueProbes:
    """Implements `QueueProbes`."""

    def __init__(self) -> None:
        self._connections = Connections()
        self._times: WeakKeyDictionary[SharedQuestions, dict[str, JobTimes]] = WeakKeyDictionary()

    def open(self, queue: PostgresQueue, runner: SqlRunner) -> QueueProbe:
        """See `QueueProbes.open`."""
        if queue.custom is not None:
            return CustomProbe(queue.custom, runner)
        if queue.preset is Preset.PROCRASTINATE:
            questions = self._connections.questions(runner)
            times = self._times.setdefault(questions, {})
            return ProcrastinateProbe(runner, queue.queues, queue.schema_name, questions, times)
        remedy = "use preset procrastinate, or SQL of your own under custom"
        raise InvalidSpec("queue.postgres.preset", f"{queue.preset} is not supported yet", remedy)
