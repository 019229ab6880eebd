"""An admission policy, webhook or Pod Security that denies a write is told from every other answer."""

import pytest

from headroom.errors import KubeUnavailable, Refused
from headroom.ports.kube import Kube
from headroom.reasons import Reason
from tests.unit.adapters.answering_server import MANIFEST, ONE, Server, kube, server, telemetry

__all__ = ["kube", "server", "telemetry"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (422, "ValidatingAdmissionPolicy 'images' with binding 'shop' denied request: images cannot be from there"),
        (403, "ValidatingAdmissionPolicy 'images' with binding 'shop' denied request: no maximum of memory"),
        (401, "ValidatingAdmissionPolicy 'images' with binding 'shop' denied request: unknown registry"),
        (400, 'admission webhook "images.example.com" denied the request: unknown registry'),
        (403, 'admission webhook "images.example.com" denied the request: you cannot use this image'),
        (409, 'admission webhook "images.example.com" denied the request: not now'),
        (403, 'violates PodSecurity "restricted:latest": runAsNonRoot != true'),
        (403, "unable to validate against any security context constraint: []"),
    ],
)
async def test_a_policy_that_denies_is_told_from_a_spec_that_is_wrong(
    kube: Kube, server: Server, status: int, message: str
) -> None:
    """Whatever status and words its author chose; neither a field of ours nor a right is what is missing."""
    details = {"causes": [{"message": message}]}
    server.say(status, f'pods "store-1" is forbidden: {message}', reason="Invalid", details=details)
    with pytest.raises(Refused) as error:
        await kube.create(MANIFEST)
    assert error.value.reason is Reason.FORBIDDEN
    assert message in str(error.value)
    assert str(error.value).endswith(f"(HTTP {status}); ease the policy, or change what it names")


async def test_a_policy_that_denies_a_patch_is_no_conflict(kube: Kube, server: Server) -> None:
    """A JSON patch that does not fit is one too, and is tried again without a word."""
    server.say(422, "ValidatingAdmissionPolicy 'labels' with binding 'all' denied request: no such label")
    with pytest.raises(Refused) as error:
        await kube.patch(ONE, [{"op": "add", "path": "/x", "value": 1}])
    assert error.value.reason is Reason.FORBIDDEN


@pytest.mark.parametrize("status", [429, 503])
async def test_a_webhook_that_asks_to_come_back_is_asked_again(kube: Kube, server: Server, status: int) -> None:
    server.say(status, 'admission webhook "images.example.com" denied the request: busy')
    with pytest.raises(KubeUnavailable):
        await kube.create(MANIFEST)
