"""Asks this machine's own service whether it serves: the health check of a container. Exits with 0 or 1."""

import asyncio
import os
import sys

from services.runtime.errors import Retryable
from services.runtime.rpc import wait_serving


def main() -> int:
    """Return 0 when the service named by `SERVICE` says SERVING on its port, 1 when not."""
    port = os.environ[f"GYRE_{os.environ['SERVICE'].upper()}_GRPC_PORT"]
    try:
        asyncio.run(wait_serving(f"127.0.0.1:{port}", seconds=2))
    except Retryable as error:
        print(error, file=sys.stderr)  # noqa: T201 - a container's health log is its standard error
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
