"""Archives hold what their index says, and equal contents give equal digests."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from e2e.cluster.oci import Blob, Image, ImageConfig, ImageStore, add_file, add_folder, add_tree

REFERENCE = "localhost/headroom/thing:1"


def write_layer(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        add_folder(archive, "data", owner=999)
        add_file(archive, "data/hello", b"hello", mode=0o755, owner=999)


def make_image(folder: Path) -> tuple[ImageStore, Image, Blob]:
    store = ImageStore(folder)
    layer = store.layer("layer-1", write_layer)
    return store, store.tag(REFERENCE, [layer], ImageConfig(entrypoint=("/x",), env=("A=b",), user="1:1")), layer


def read_archive(store: ImageStore, image: Image, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    stream = io.BytesIO()
    store.write_archive(image, stream, without=without)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        return {member.name: read_member(archive, member) for member in archive}


def read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    handle = archive.extractfile(member)
    assert handle is not None
    return handle.read()


def test_every_blob_is_found_under_its_digest(tmp_path: Path) -> None:
    store, image, _layer = make_image(tmp_path)
    files = read_archive(store, image)
    blobs = {name: content for name, content in files.items() if name.startswith("blobs/")}
    assert len(blobs) == 3
    for name, content in blobs.items():
        assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def test_the_index_leads_to_the_layers(tmp_path: Path) -> None:
    store, image, layer = make_image(tmp_path)
    files = read_archive(store, image)
    [entry] = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == REFERENCE
    manifest = json.loads(files["blobs/sha256/" + entry["digest"].removeprefix("sha256:")])
    assert [found["digest"] for found in manifest["layers"]] == [layer.digest]
    config = json.loads(files["blobs/sha256/" + manifest["config"]["digest"].removeprefix("sha256:")])
    assert config["rootfs"]["diff_ids"] == [layer.digest]
    assert config["config"]["Entrypoint"] == ["/x"]
    assert config["config"]["User"] == "1:1"


def test_a_blob_that_the_reader_has_is_left_out(tmp_path: Path) -> None:
    store, image, layer = make_image(tmp_path)
    files = read_archive(store, image, without=(layer.digest,))
    assert f"blobs/sha256/{layer.digest.removeprefix('sha256:')}" not in files
    assert {"oci-layout", "index.json"} <= files.keys()


def test_equal_contents_have_equal_digests(tmp_path: Path) -> None:
    assert make_image(tmp_path / "a")[1] == make_image(tmp_path / "b")[1]


def test_a_layer_is_written_once(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    first = store.layer("key", write_layer)

    def fail(_path: Path) -> None:
        pytest.fail("the layer was made again")

    assert store.layer("key", fail) == first


def test_a_layer_whose_blob_is_gone_is_made_again(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    first = store.layer("key", write_layer)
    store.blob_path(first.digest).unlink()
    assert store.layer("key", write_layer) == first
    assert store.blob_path(first.digest).exists()


def test_an_interrupted_layer_leaves_no_layer(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.layer("key", fail)
    assert store.layer("key", write_layer).size > 4


def test_unused_blobs_are_dropped_and_used_ones_stay(tmp_path: Path) -> None:
    store, image, layer = make_image(tmp_path)
    stray = store.put(b"stray")
    store.drop_unused()
    assert not store.blob_path(stray.digest).exists()
    assert all(store.blob_path(digest).exists() for digest in image.blobs)
    assert store.blob_path(layer.digest).stat().st_size == layer.size


def test_images_are_read_back_by_name(tmp_path: Path) -> None:
    store, image, _layer = make_image(tmp_path)
    assert store.images() == [image]


def test_a_tree_keeps_names_and_the_right_to_run(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "run").write_text("#!/bin/sh\n")
    (source / "sub" / "run").chmod(0o700)
    (source / "read").write_text("text")
    (source / "read").chmod(0o600)
    target = tmp_path / "layer.tar"
    with tarfile.open(target, "w") as archive:
        add_tree(archive, source, "opt/x")
    with tarfile.open(target) as archive:
        found = {member.name: (member.mode, member.uid, member.mtime) for member in archive}
    assert found["opt/x/sub/run"] == (0o755, 0, 0)
    assert found["opt/x/read"] == (0o644, 0, 0)
    assert found["opt/x/sub"][0] == 0o755
