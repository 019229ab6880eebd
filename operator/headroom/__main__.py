"""`python -m headroom`: run the operator."""

import asyncio
import os
import sys

from headroom.adapters.telemetry import configure_logs
from headroom.app import run
from headroom.errors import HeadroomError
from headroom.settings import parse_settings


def main() -> None:
    """Read the settings, set up the logs, and run; exit status 2 when a setting cannot be used."""
    try:
        settings = parse_settings(os.environ)
    except HeadroomError as error:
        sys.exit(f"headroom: {error}")
    configure_logs(settings.log_format, settings.log_level)
    sys.exit(asyncio.run(run(settings)))


if __name__ == "__main__":
    main()
