"""Which ports are free: for a stack, or one service, that must not be in another's way."""

import socket

import psutil

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


def taken_by(port: int) -> str:
    """Return who listens on a port, as far as can be seen, to go behind "is taken"; empty: it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return f"{_listener(port)} ({error.strerror})"
    return ""


def _listener(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.pid and connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,):
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass  # somebody else's, or gone meanwhile: the port is taken all the same
    return ""
