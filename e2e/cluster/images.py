"""The images of the test bed: made from Debian packages and locked Python packages, without a registry."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping
from pathlib import Path

from e2e.cluster.build import hash_files, own_folder, own_key
from e2e.cluster.console import Console
from e2e.cluster.layout import PAUSE_IMAGE
from e2e.cluster.oci import Blob, ImageConfig, ImageStore, add_file, add_folder, add_tree
from e2e.cluster.packages import (
    OPERATOR_SET,
    WORKER_SET,
    PackageSet,
    is_code,
    package_key,
    scratch_copy,
    write_package_layer,
)
from e2e.cluster.roots import (
    BOOKWORM,
    NONROOT_ID,
    POSTGRES_ID,
    TRIXIE,
    Suite,
    compile_python,
    drop_old_roots,
    ensure_root,
    root_key,
    write_root_layer,
)
from e2e.cluster.settings import MODULE_FOLDER, REPOSITORY, Settings

PREFIX = "localhost/headroom"
IMAGES: Mapping[str, str] = {
    "postgres17": f"{PREFIX}/postgres:17",
    "postgres15": f"{PREFIX}/postgres:15",
    "operator": f"{PREFIX}/operator:dev",
    "worker": f"{PREFIX}/worker:dev",
}
PACKAGES_PATH = "opt/headroom/packages"
CODE_PATH = "opt/headroom/code"
APPS_PATH = "app"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LANGUAGE = "LANG=C.UTF-8"


class ImageBuilder:
    """Builds each image from cached layers; only what changed is made anew."""

    def __init__(self, settings: Settings, console: Console) -> None:
        """Build into the cache of these settings."""
        self._settings = settings
        self._console = console
        self.store = ImageStore(settings.images)

    def base(self, suite: Suite) -> Blob:
        """Build the layer that all images of a suite share."""

        def write(path: Path) -> None:
            root = ensure_root(self._settings, suite, self._console)
            with self._console.step(f"packing Debian {suite.name}"):
                write_root_layer(root, path)

        return self.store.layer(root_key(suite), write)

    def postgres(self, suite: Suite) -> None:
        """Build PostgreSQL with the layout of the well-known image."""
        entrypoint = (MODULE_FOLDER / "entrypoint.sh").read_bytes()

        def write(path: Path) -> None:
            with tarfile.open(path, "w") as archive:
                add_file(archive, "usr/local/bin/headroom-entrypoint.sh", entrypoint, mode=0o755)
                add_folder(archive, "docker-entrypoint-initdb.d")
                for folder in ("var/lib/postgresql", "var/lib/postgresql/data", "run/postgresql"):
                    add_folder(archive, folder, mode=0o1777, owner=POSTGRES_ID)

        layer = self.store.layer(f"postgres-{hashlib.sha256(entrypoint).hexdigest()[:16]}", write)
        binaries = f"/usr/lib/postgresql/{suite.postgres}/bin"
        config = ImageConfig(
            entrypoint=("headroom-entrypoint.sh",),
            command=("postgres",),
            env=(
                f"PATH={binaries}:{SYSTEM_PATH}",
                LANGUAGE,
                f"PG_MAJOR={suite.postgres}",
                "PGDATA=/var/lib/postgresql/data",
            ),
        )
        self.store.tag(f"{PREFIX}/postgres:{suite.postgres}", [self.base(suite), layer], config)

    def operator(self) -> None:
        """Build the operator: locked packages below, the checkout's code on top."""
        layers = [self.base(TRIXIE), self._packages(OPERATOR_SET), self._code(REPOSITORY / "operator", CODE_PATH)]
        config = ImageConfig(
            entrypoint=("python3", "-m", "headroom"),
            env=(
                f"PATH={SYSTEM_PATH}",
                LANGUAGE,
                f"PYTHONPATH=/{CODE_PATH}:/{PACKAGES_PATH}",
                f"OPENSSL_CONF=/{CODE_PATH}/headroom/adapters/postgres/wire/openssl.cnf",
                "PYTHONUNBUFFERED=1",
                "PYTHONDONTWRITEBYTECODE=1",
            ),
            user=f"{NONROOT_ID}:{NONROOT_ID}",
        )
        self.store.tag(IMAGES["operator"], layers, config)

    def worker(self) -> None:
        """Build the queue workers and clients of the demo and the tests."""
        layers = [self.base(TRIXIE), self._packages(WORKER_SET)]
        apps = REPOSITORY / "e2e" / "apps"
        if apps.is_dir():
            layers.append(self._code(apps, APPS_PATH))
        binaries = f"/usr/lib/postgresql/{TRIXIE.postgres}/bin"
        config = ImageConfig(
            command=("python3",),
            env=(
                f"PATH={binaries}:{SYSTEM_PATH}",
                LANGUAGE,
                f"PYTHONPATH=/{APPS_PATH}:/{PACKAGES_PATH}",
                "PYTHONUNBUFFERED=1",
                "PYTHONDONTWRITEBYTECODE=1",
            ),
            user=f"{NONROOT_ID}:{NONROOT_ID}",
            workdir=f"/{APPS_PATH}",
        )
        self.store.tag(IMAGES["worker"], layers, config)

    def _packages(self, chosen: PackageSet) -> Blob:
        def write(path: Path) -> None:
            root = ensure_root(self._settings, TRIXIE, self._console)
            with self._console.step(f"installing the Python packages of the {chosen.name}"):
                write_package_layer(chosen, root, path, PACKAGES_PATH)

        return self.store.layer(package_key(chosen, root_key(TRIXIE)), write)

    def _code(self, source: Path, target: str) -> Blob:
        files = [path for path in source.rglob("*") if is_code(path)]
        key = f"code-{target.replace('/', '-')}-{root_key(TRIXIE)[-4:]}-{hash_files(files, base=source)}"

        def write(path: Path) -> None:
            root = ensure_root(self._settings, TRIXIE, self._console)
            with scratch_copy(files, source, self._settings.images) as copy:
                compile_python(root, copy)
                with tarfile.open(path, "w") as archive:
                    add_tree(archive, copy, target)

        return self.store.layer(key, write)


def build_pause(settings: Settings) -> None:
    """Store the image that holds a pod's namespaces; its program is compiled before."""
    program = own_folder(settings) / "pause"

    def write(path: Path) -> None:
        with tarfile.open(path, "w") as archive:
            add_file(archive, "pause", program.read_bytes(), mode=0o755)

    store = ImageStore(settings.images)
    layer = store.layer(f"pause-{own_key()}", write)
    store.tag(PAUSE_IMAGE, [layer], ImageConfig(entrypoint=("/pause",), user="65535:65535"))


def build_images(settings: Settings, console: Console) -> None:
    """Build every image that is not up to date, then drop what no image uses."""
    builder = ImageBuilder(settings, console)
    for suite in (TRIXIE, BOOKWORM):
        builder.postgres(suite)
    builder.operator()
    builder.worker()
    builder.store.drop_unused()
    drop_old_roots(settings, [TRIXIE, BOOKWORM])
