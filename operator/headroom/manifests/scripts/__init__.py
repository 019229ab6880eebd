"""The shell scripts that run inside a replica's pod."""

from functools import cache
from importlib.resources import files

NAMES = ("seed.sh", "start.sh", "started.sh", "ready.sh", "live.sh", "stop.sh", "credentials.sh")


@cache
def load_scripts() -> dict[str, str]:
    """Each script's text by file name; part of this package, so the same for the life of a process."""
    return {name: files(__package__).joinpath(name).read_text(encoding="utf-8") for name in NAMES}
