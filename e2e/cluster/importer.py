"""Bringing images into a node's containerd: run inside the box, before and after the kubelet starts."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import PAUSE_IMAGE, Node
from e2e.cluster.oci import Image, ImageStore
from e2e.cluster.probes import is_answering
from e2e.cluster.settings import load_settings
from e2e.cluster.shell import describe_failure, run

START_SECONDS = 20.0


def ctr(node: Node, *arguments: str) -> list[str]:
    """Return a ctr command for the node's Kubernetes images and containers."""
    return ["ctr", "--address", str(node.containerd_socket), "--namespace", "k8s.io", *arguments]


def missing_images(node: Node, images: Sequence[Image]) -> list[Image]:
    """Return the images that the node does not have in this very version."""
    listed = run(ctr(node, "images", "list")).splitlines()
    present = {tuple(line.split()[:3:2]) for line in listed}
    return [image for image in images if (image.reference, image.manifest.digest) not in present]


def import_image(node: Node, image: Image, store: ImageStore) -> None:
    """Import an image, sending only the blobs that the node lacks."""
    present = set(run(ctr(node, "content", "list", "--quiet")).split())
    known = present.intersection(image.blobs)
    with subprocess.Popen(
        ctr(node, "images", "import", "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            store.write_archive(image, process.stdin, without=known)
            process.stdin.close()
        except BrokenPipeError:
            pass
        output = process.stdout.read().decode()
    if process.returncode != 0:
        raise ClusterError(describe_failure(["ctr", "images", "import", image.reference], process.returncode, output))


@contextmanager
def bare_containerd(node: Node) -> Iterator[None]:
    """Run containerd without its Kubernetes plugin for a moment."""
    command = ["containerd", f"--config={node.run / 'containerd-sweep.toml'}"]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + START_SECONDS
        while not is_answering(f"socket:{node.containerd_socket}"):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise ClusterError(f"containerd of {node.name} does not start: see images-{node.name}.log.")
            time.sleep(0.02)
        yield
        process.terminate()
        process.wait()


def sweep_containers(node: Node) -> None:
    """Forget the containers of a former run: their processes ended with their box."""
    if names := run(ctr(node, "containers", "list", "--quiet")).split():
        run(ctr(node, "containers", "delete", *names))


def main(arguments: Sequence[str]) -> None:
    """Import what is missing, or one `--archive PATH`.

    `--sweep` clears a former run away before the kubelet starts, and imports the pause image only.
    """
    settings = load_settings()
    node = Node(arguments[-1])
    store = ImageStore(settings.images)
    if "--sweep" in arguments:
        with bare_containerd(node):
            sweep_containers(node)
            for image in missing_images(node, [i for i in store.images() if i.reference == PAUSE_IMAGE]):
                import_image(node, image, store)
        return
    if "--archive" in arguments:
        run(ctr(node, "images", "import", arguments[-2]))
        return
    for image in missing_images(node, store.images()):
        started = time.monotonic()
        import_image(node, image, store)
        sys.stderr.write(f"imported {image.reference} in {time.monotonic() - started:.1f} s\n")


if __name__ == "__main__":
    main(sys.argv[1:])
