"""What the administrator of the installation permits authors to name: images to run, Secrets to read and mount.

Without a rule all is permitted. The rules hold for what Headroom does on behalf of an author; they do not replace the
rights of the API server. Both are decided by name or label alone, before anything is made or sent.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headroom.model.conditions import Finding
from headroom.reasons import Reason

DEFAULT_REGISTRY = "docker.io"
DEFAULT_FOLDER = "library"
ALIASES = {"index.docker.io": DEFAULT_REGISTRY, "registry-1.docker.io": DEFAULT_REGISTRY}
"""Other names of the default registry."""
MOST_SHOWN = 5
LONGEST_SHOWN = 128
_REGISTRY = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?", re.ASCII)
_COMPONENT = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
"""As in the grammar of the distribution project, reference/reference.go."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image reference in full: registry and folders, tag and digest ("" where there is none)."""

    path: tuple[str, ...]
    tag: str = ""
    digest: str = ""

    def is_in(self, allowed: "Image") -> bool:
        """Whether it is the same repository, and the same content where a tag or digest is given."""
        if self.path != allowed.path:
            return False
        if allowed.digest:
            return self.digest == allowed.digest
        # A runtime pulls by the digest, whatever the tag beside it says.
        return not allowed.tag or (self.tag == allowed.tag and not self.digest)


def parse_image(text: str) -> Image | None:
    """Read a reference as a container runtime does, or None for what no runtime would pull.

    A first part with a dot or a port, or `localhost`, is a registry; all else is on Docker Hub.
    """
    text, at, digest = text.partition("@")
    before, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        before, tag, colon = text, "", ""
    is_named = (not at or _DIGEST.fullmatch(digest)) and (not colon or _TAG.fullmatch(tag))
    path = _complete(before.split("/"))
    if not is_named or not _is_path(path):
        return None
    return Image(path, tag, digest)


def _complete(parts: list[str]) -> tuple[str, ...]:
    """The whole path, from the registry on."""
    first, rest = parts[0], parts[1:]
    if rest and ("." in first or ":" in first or first == "localhost"):
        parts = [ALIASES.get(first.lower(), first.lower()), *rest]
    else:
        parts = [DEFAULT_REGISTRY, *parts]
    if parts[0] == DEFAULT_REGISTRY and len(parts) == 2:
        parts.insert(1, DEFAULT_FOLDER)
    return tuple(parts)


def _is_path(path: tuple[str, ...]) -> bool:
    is_known = _REGISTRY.fullmatch(path[0]) is not None
    return is_known and all(map(_COMPONENT.fullmatch, path[1:]))


def _is_below(image: Image, folder: str) -> bool:
    """Whether an image is somewhere below a folder, such as `registry.example.com/db/`."""
    parts = folder.rstrip("/").split("/")
    if "." in parts[0] or ":" in parts[0] or parts[0] == "localhost":
        parts[0] = ALIASES.get(parts[0].lower(), parts[0].lower())
    else:
        parts.insert(0, DEFAULT_REGISTRY)
    return len(image.path) > len(parts) and image.path[: len(parts)] == tuple(parts)


@dataclass(frozen=True, slots=True)
class Permitted:
    """The rules of one installation; empty: everything is permitted.

    An entry of `images` that ends with `/` permits all below it; any other one the repository, and the tag or digest
    that it names. A Secret must have a name with `secret_prefix`, and the label `secret_label` (`key` or `key=value`).
    """

    images: tuple[str, ...] = ()
    secret_prefix: str = ""
    secret_label: str = ""

    def find_image_problem(self, image: str) -> Finding | None:
        """Why an image may not be run; None if it may."""
        if not self.images or any(_permits(entry, image) for entry in self.images):
            return None
        message = (
            f"spec.image: {image[:LONGEST_SHOWN]} is not permitted here: use one of {_list(self.images)}, or let the "
            "administrator add it to policy.images of the chart"
        )
        return Finding(Reason.IMAGE_NOT_PERMITTED, message)

    def find_name_problem(self, name: str, field: str) -> Finding | None:
        """Why a Secret of this name may not be used, as far as its name tells; `field` is the one that names it."""
        if name.startswith(self.secret_prefix):
            return None
        message = (
            f"{field}: Secret {name} may not be used here: its name must begin with {self.secret_prefix} "
            "(policy.secrets.prefix of the chart)"
        )
        return Finding(Reason.SECRET_NOT_PERMITTED, message)

    def find_secret_problem(self, name: str, labels: Mapping[str, str], field: str) -> Finding | None:
        """Why a Secret with these labels may not be used; None if it may."""
        key, _, value = self.secret_label.partition("=")
        is_labelled = not key or (key in labels and value in ("", labels[key]))
        if is_labelled:
            return self.find_name_problem(name, field)
        message = (
            f"{field}: Secret {name} may not be used here: it needs the label {self.secret_label} "
            "(policy.secrets.label of the chart)"
        )
        return self.find_name_problem(name, field) or Finding(Reason.SECRET_NOT_PERMITTED, message)


def _list(entries: tuple[str, ...]) -> str:
    """The first few, so that a message stays short."""
    more = len(entries) - MOST_SHOWN
    return ", ".join(entries[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _permits(entry: str, text: str) -> bool:
    image = parse_image(text)
    if image is None:
        return False
    if entry.endswith("/"):
        return _is_below(image, entry)
    allowed = parse_image(entry)
    return allowed is not None and image.is_in(allowed)


def find_unreadable(images: Iterable[str]) -> list[str]:
    """Entries of `images` that no image can match, since they are not references."""
    return [entry for entry in images if parse_image(f"{entry}any" if entry.endswith("/") else entry) is None]
