"""Settings of the property tests: what is slow on a busy machine is not wrong."""

from hypothesis import settings

settings.register_profile("busy-machine", deadline=None)
settings.load_profile("busy-machine")
