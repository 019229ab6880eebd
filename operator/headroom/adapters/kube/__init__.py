"""The Kubernetes API over the official asyncio client: dicts only, our own paths, errors translated at the edge."""
