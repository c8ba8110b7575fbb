"""Ports that nobody listens on: for a stack, or one service, that must not be in another's way."""

import socket

from embedded.settings import HOST, PORTS


def free_ports(count: int) -> list[int]:
    """Return so many ports that nobody listens on now."""
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def stack_ports() -> dict[str, int]:
    """Return one for every part of the embedded stack, by the variable that sets it."""
    return dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
