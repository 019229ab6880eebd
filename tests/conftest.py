"""What all tests share."""

import asyncio


def pytest_configure() -> None:
    """Say that there is no event loop yet: else pytest-asyncio's look for one makes one that nobody closes."""
    asyncio.set_event_loop(None)
