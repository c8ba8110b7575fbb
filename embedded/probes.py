"""How one finds out that a part is ready: each probe asks once, quickly, and answers yes or no."""

from __future__ import annotations

import http.client
import socket
import struct
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedded.settings import HOST

_SECONDS = 1.0
_METADATA_KEY, _METADATA_VERSION = 3, 1


def http_ok(port: int, path: str) -> bool:
    """Return whether a GET is answered with 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def grpc_serving(port: int) -> bool:
    """Return whether the standard gRPC health service says SERVING."""
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types lack the method
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def kafka_has_broker(port: int) -> bool:
    """Return whether Kafka's metadata names a broker: one that is registered and takes requests.

    An open port alone says nothing: the listener opens before the broker has joined its controller.
    """
    request = struct.pack(">hhihi", _METADATA_KEY, _METADATA_VERSION, 0, -1, 0)  # no client id, no topics
    try:
        with socket.create_connection((HOST, port), timeout=_SECONDS) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            header = connection.recv(12, socket.MSG_WAITALL)
    except OSError:
        return False
    if len(header) < 12:
        return False
    _size, _correlation, brokers = struct.unpack(">iii", header)
    return bool(brokers > 0)
