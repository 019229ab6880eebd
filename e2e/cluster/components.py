"""What a program of the box is: its command, what must be ready before, and how to tell that it is ready."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Component:
    """A program of the box; a task is ready when it has ended well, a server when `ready` answers.

    `ready` is `exit`, `running`, `socket:PATH` or an http(s) URL; `after` names what must be ready before.
    """

    name: str
    argv: tuple[str, ...]
    ready: str
    after: tuple[str, ...] = ()
    node: str = "n1"
    env: dict[str, str] = field(default_factory=dict)

    @property
    def is_task(self) -> bool:
        """Whether the program is run once."""
        return self.ready == "exit"


@dataclass(frozen=True, slots=True)
class Places:
    """Where the programs and the files of this cluster are."""

    tools: Path
    own: Path
    state: Path
    pki: Path
    python: str

    def tool(self, name: str) -> str:
        """Return the path of a compiled program."""
        return str(self.tools / name)

    def kubectl(self, *arguments: str) -> tuple[str, ...]:
        """Return a kubectl command of the administrator."""
        return (self.tool("kubectl"), f"--kubeconfig={self.admin()}", *arguments)

    def admin(self) -> str:
        """Return the administrator's kubeconfig."""
        return str(self.state / "kubeconfig")

    def pem(self, name: str) -> str:
        """Return the path of a key or certificate."""
        return str(self.pki / name)
