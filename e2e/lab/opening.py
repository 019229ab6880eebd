"""Opening the shop: namespace, primary, roles by `headroom-setup.sql`, data, and the way to ask it questions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.lab import shop
from e2e.lab.kubectl import Kubectl, Manifest, condition_of
from e2e.lab.waiting import wait_until

SETUP_SQL = Path(__file__).parents[2] / "charts/headroom/files/headroom-setup.sql"
QUEUE_SQL = SETUP_SQL.with_name("headroom-queue-procrastinate.sql")
ROWS_PER_SCALE = 100_000
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop in a namespace of its own; `node` pins the primary, so that a test may take another node away."""

    kubectl: Kubectl
    postgres_image: str
    worker_image: str
    node: str | None = None

    def open(
        self,
        *,
        scale: int = 1,
        size: str = "12Gi",
        settings: Mapping[str, str] | None = None,
        say: Say = lambda _: None,
    ) -> None:
        """Start the primary, set up its roles, and load `scale` x 100,000 pgbench accounts (about 15 MiB each)."""
        self.kubectl.ensure_namespace(shop.RESTRICTED)
        say("primary: starting")
        self.kubectl.apply(
            shop.secret("store-monitor", shop.MONITOR),
            shop.secret("store-queue", shop.QUEUE),
            shop.secret("store-replication", shop.REPLICATION),
            *shop.primary(self.postgres_image, size=size, node=self.node, settings=settings),
        )
        wait_until("the primary to be Ready", self.is_primary_ready, timeout=120)
        say("primary: roles")
        self.set_up_roles()
        say(f"primary: loading {scale * ROWS_PER_SCALE:,} rows")
        self.load(scale)

    def is_primary_ready(self) -> bool:
        """True when the primary's pod is Ready."""
        pod = self.kubectl.get("pod", f"{shop.PRIMARY}-0")
        return condition_of(pod, "Ready").get("status") == "True"

    def set_up_roles(self) -> None:
        """Run `headroom-setup.sql` as a user would, and make the readers' role."""
        logins = ("monitor", "queue", "replication")
        passwords = "".join(f"\\set {login}_password '{shop.PASSWORD}'\n" for login in logins)
        self.in_primary("psql", "-qX", "-f", "-", stdin=passwords + SETUP_SQL.read_text())
        self.sql(
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{shop.READER}') THEN "
            f"CREATE ROLE {shop.READER} LOGIN PASSWORD '{shop.PASSWORD}'; "
            f"GRANT pg_read_all_data TO {shop.READER}; END IF; END $$"
        )

    def let_queue_be_read(self) -> None:
        """Run `headroom-queue-procrastinate.sql`, once procrastinate's tables are there."""
        self.in_primary("psql", "-qX", "-f", "-", stdin=QUEUE_SQL.read_text())

    def load(self, scale: int) -> None:
        """Fill the pgbench tables; generated in the server, so that no client is in the way."""
        self.in_primary("pgbench", "-iq", "-I", "dtGvp", "-s", str(scale), timeout=900)
        self.sql("CHECKPOINT")

    def sql(self, statement: str, *, pod: str = f"{shop.PRIMARY}-0") -> str:
        """Run a statement in a PostgreSQL pod as the owner; returns unaligned rows."""
        return self.in_pod(pod, "psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-c", statement).strip()

    def in_primary(self, *command: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run a command in the primary's container, connected as the owner."""
        return self.in_pod(f"{shop.PRIMARY}-0", *command, stdin=stdin, timeout=timeout)

    def in_pod(self, pod: str, *command: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run a command in a PostgreSQL pod with libpq's variables set."""
        variables = [f"{name}={value}" for name, value in shop.login(shop.SOCKET).items()]
        flags = ("-i",) if stdin is not None else ()
        return self.kubectl("exec", *flags, pod, "--", "env", *variables, *command, stdin=stdin, timeout=timeout)

    def replicas(self, role: str, name: str = "store") -> list[Manifest]:
        """The set's pods that carry a role."""
        return self.kubectl.list("pods", f"headroom.dev/replica-set={name},headroom.dev/role={role}")

    def wait_ready(self, kind: str, name: str, *, timeout: float = 120) -> None:
        """Wait for a resource's Ready condition."""
        wait_until(
            f"{kind}/{name} to be Ready",
            lambda: (
                self.kubectl.condition(kind, name, "Ready").get("status") == "True"
                or _unready(self.kubectl.condition(kind, name, "Ready"))
            ),
            timeout=timeout,
        )

    def wait_counts(self, serving: int, standbys: int, *, name: str = "store", timeout: float = 180) -> None:
        """Wait until exactly so many replicas serve and so many stand by."""

        def look() -> bool:
            found = len(self.replicas("serving", name)), len(self.replicas("standby", name))
            assert found == (serving, standbys), f"serving and standby are {found}"
            return True

        wait_until(f"{serving} serving and {standbys} standby of dbrs/{name}", look, timeout=timeout)

    def close(self) -> None:
        """Delete the namespace with everything in it."""
        self.kubectl("delete", "dbrs,wp,dbg", "--all", "--wait=true", "--timeout=90s", timeout=100)
        self.kubectl("delete", "namespace", self.kubectl.namespace, "--wait=true", "--timeout=120s", timeout=130)


def _unready(condition: Manifest) -> bool:
    assert condition, "no Ready condition yet"
    raise AssertionError(f"Ready={condition['status']} {condition['reason']}: {condition['message']}")
