"""What a pass needs from outside: ports and the few facts of this installation."""

from dataclasses import dataclass

from headroom.ports.clock import Clock
from headroom.ports.kube import Kube
from headroom.ports.postgres import Postgres
from headroom.ports.telemetry import Telemetry
from headroom.reconcilers.board import GuardBoard
from headroom.reconcilers.status import StatusReporter


@dataclass(frozen=True, slots=True)
class Services:
    """`install_id` is this installation's part of slot names."""

    kube: Kube
    postgres: Postgres
    clock: Clock
    telemetry: Telemetry
    board: GuardBoard
    reporter: StatusReporter
    install_id: str
