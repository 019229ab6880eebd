"""The system's clocks: the only place that reads them."""

import asyncio
import time
from datetime import UTC, datetime

read_seconds = time.perf_counter
"""For what takes less than a turn of the event loop."""
read_thread_seconds = time.thread_time
"""Of a processor, that the present thread has used."""


class SystemClock:
    """Implements `Clock`."""

    def now(self) -> datetime:
        """Wall time, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """CLOCK_BOOTTIME if there is one, so that the lease also ends while the machine is suspended."""
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
