"""Where the data of a member is copied from: another fact than where it streams from."""

from dataclasses import dataclass, replace

from headroom.model.snapshot import Stamps

PRIMARY, NONE = "primary", "none"
"""What a pod has instead of a member's name, which always ends with its number and its life."""

MOST_OF_WHY = 500
"""Characters of a reason that is written on a pod or a claim."""


@dataclass(frozen=True, slots=True)
class CopySource:
    """The server that a copy is taken from, and `why` that one, in words.

    `name` is that of a standby, else one of the two above. A standby is reached at the `address` of its pod; `ca_pem`
    verifies its certificate by `tls_mode`, libpq's sslmode. Nothing is copied from `none`: the volume is only checked,
    and becomes the member's own if it was created from a snapshot, whose stamps are `restored`.
    """

    name: str
    why: str
    address: str = ""
    tls_mode: str = "disable"
    ca_pem: str = ""
    restored: Stamps | None = None

    @property
    def is_standby(self) -> bool:
        """It spares the primary."""
        return is_standby(self.name)

    def add_reason(self, method_why: str) -> "CopySource":
        """The same, which also says why it is copied and not restored."""
        return replace(self, why=f"{self.why}; {method_why}") if method_why else self


def is_standby(name: str) -> bool:
    """Whether this names a member; pods from before sources were written down have none."""
    return name not in (PRIMARY, NONE, "")


FROM_PRIMARY = CopySource(PRIMARY, "no other server has the data")
FROM_NONE = CopySource(NONE, "its volume has its copy")
