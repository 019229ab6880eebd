"""The images of the test bed."""
from __future__ import annotations

import tarfile
from pathlib import Path

from e2e.cluster.build import own_folder, own_key
from e2e.cluster.console import Console
from e2e.cluster.layout import PAUSE_IMAGE
from e2e.cluster.oci import ImageConfig, ImageStore, add_file
from e2e.cluster.settings import Settings


def build_pause(settings: Settings, store: ImageStore) -> None:
    """Store the image that holds a pod's namespaces."""

    def write(path: Path) -> None:
        with tarfile.open(path, "w") as archive:
            add_file(archive, "pause", (own_folder(settings) / "pause").read_bytes(), mode=0o755)

    layer = store.layer(f"pause-{own_key()}", write)
    store.tag(PAUSE_IMAGE, [layer], ImageConfig(entrypoint=("/pause",), user="65535:65535"))


def build_images(settings: Settings, console: Console) -> None:
    store = ImageStore(settings.images)
    build_pause(settings, store)
