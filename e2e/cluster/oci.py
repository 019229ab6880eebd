"""Writing OCI images without a builder or a registry: blobs in a folder, archives as a stream."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Images with equal contents have equal digests: nothing in them depends on when they were made.
EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored blob; layers are not compressed, so a layer's digest is its diff id as well."""

    digest: str
    size: int

    def descriptor(self, media_type: str) -> dict[str, Any]:
        """Return how manifests refer to it."""
        return {"mediaType": media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Image:
    """A named image: its manifest and all blobs the manifest leads to."""

    reference: str
    manifest: Blob
    blobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How a container of the image is run."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = "/"

    def to_json(self, layers: Sequence[Blob]) -> dict[str, Any]:
        """Return the OCI image configuration."""
        machine = platform.machine()
        return {
            "created": EPOCH,
            "architecture": ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "config": {
                "Entrypoint": list(self.entrypoint),
                "Cmd": list(self.command),
                "Env": list(self.env),
                "User": self.user,
                "WorkingDir": self.workdir,
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        }


class ImageStore:
    """Blobs, layers by the hash of what they are made from, and images by name, below one folder."""

    def __init__(self, folder: Path) -> None:
        """Use folder, which is made when something is written."""
        self._folder = folder

    def blob_path(self, digest: str) -> Path:
        """Return where a blob is."""
        return self._folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def put(self, content: bytes) -> Blob:
        """Store a small blob."""
        blob = Blob("sha256:" + hashlib.sha256(content).hexdigest(), len(content))
        path = self.blob_path(blob.digest)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, content)
        return blob

    def layer(self, key: str, write: Callable[[Path], None]) -> Blob:
        """Return the layer of that key; write makes its tar file when it is not stored."""
        note = self._folder / "layers" / f"{key}.json"
        if note.exists():
            blob = Blob(**json.loads(note.read_text()))
            if self.blob_path(blob.digest).exists():
                return blob
        draft = self._folder / f"{key}.partial"
        draft.parent.mkdir(parents=True, exist_ok=True)
        write(draft)
        with draft.open("rb") as handle:
            digest = "sha256:" + hashlib.file_digest(handle, "sha256").hexdigest()
        blob = Blob(digest, draft.stat().st_size)
        self.blob_path(digest).parent.mkdir(parents=True, exist_ok=True)
        draft.rename(self.blob_path(digest))
        note.parent.mkdir(exist_ok=True)
        _replace(note, json.dumps(asdict(blob)).encode())
        return blob

    def tag(self, reference: str, layers: Sequence[Blob], config: ImageConfig) -> Image:
        """Store the image of these layers under a name."""
        config_blob = self.put(_json(config.to_json(layers)))
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config_blob.descriptor(CONFIG_TYPE),
            "layers": [layer.descriptor(LAYER_TYPE) for layer in layers],
        }
        manifest_blob = self.put(_json(manifest))
        blobs = (manifest_blob.digest, config_blob.digest, *(layer.digest for layer in layers))
        image = Image(reference, manifest_blob, blobs)
        path = self._folder / "names" / f"{quote(reference, safe='')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, json.dumps(asdict(image)).encode())
        return image

    def images(self) -> list[Image]:
        """Return all named images."""
        return [_read_image(path) for path in sorted((self._folder / "names").glob("*.json"))]

    def write_archive(self, image: Image, target: IO[bytes], *, without: Collection[str] = ()) -> None:
        """Write an OCI archive, leaving out the blobs that its reader already has."""
        annotations = {
            "io.containerd.image.name": image.reference,
            "org.opencontainers.image.ref.name": image.reference.rpartition(":")[2],
        }
        index = {
            "schemaVersion": 2,
            "manifests": [{**image.manifest.descriptor(MANIFEST_TYPE), "annotations": annotations}],
        }
        with tarfile.open(fileobj=target, mode="w|") as archive:
            add_file(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
            for digest in image.blobs:
                if digest not in without:
                    archive.add(self.blob_path(digest), f"blobs/sha256/{digest.removeprefix('sha256:')}")
            add_file(archive, "index.json", _json(index))

    def drop_unused(self) -> None:
        """Delete blobs that no named image leads to."""
        used = {digest.removeprefix("sha256:") for image in self.images() for digest in image.blobs}
        for path in (self._folder / "blobs" / "sha256").glob("*"):
            if path.name not in used:
                path.unlink()
        for path in self._folder.glob("*.partial"):
            path.unlink()


def add_file(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644, owner: int = 0) -> None:
    """Add a file to a tar archive, dated 1970."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.uid, entry.gid = len(content), mode, owner, owner
    archive.addfile(entry, io.BytesIO(content))


def add_folder(archive: tarfile.TarFile, name: str, *, mode: int = 0o755, owner: int = 0) -> None:
    """Add an empty folder to a tar archive, dated 1970."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, owner, owner
    archive.addfile(entry)


def add_tree(archive: tarfile.TarFile, source: Path, name: str) -> None:
    """Add a folder with all its files, owned by root and dated 1970, in a stable order."""
    add_folder(archive, name)
    for path in sorted(source.rglob("*")):
        entry_name = f"{name}/{path.relative_to(source)}"
        if path.is_dir():
            add_folder(archive, entry_name)
        elif path.is_file():
            add_file(archive, entry_name, path.read_bytes(), mode=0o755 if path.stat().st_mode & 0o100 else 0o644)


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _read_image(path: Path) -> Image:
    raw = json.loads(path.read_text())
    return Image(raw["reference"], Blob(**raw["manifest"]), tuple(raw["blobs"]))


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(path.name + ".new")
    draft.write_bytes(content)
    draft.rename(path)
