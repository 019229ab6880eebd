"""Where a connection goes: the host a spec names, as the operator's pod must spell it."""


def qualify_host(host: str, namespace: str) -> str:
    """Complete a bare Service name with the resource's namespace; an address or a dotted name stays as it is.

    The cluster's own domain is left to the resolver's search list.
    """
    is_bare = "." not in host and ":" not in host
    return f"{host}.{namespace}.svc" if is_bare else host
