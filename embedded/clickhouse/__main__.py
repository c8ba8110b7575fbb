from __future__ import annotations

import asyncio
import errno
import logging
import signal
import sys

from aiohttp import web
from pydantic import ValidationError

from embedded.clickhouse.engine import Engine, EngineLockedError
from embedded.clickhouse.errors import ClickHouseError
from embedded.clickhouse.limits import Quota
from embedded.clickhouse.queries import Queries
from embedded.clickhouse.server import MAX_LINE_BYTES, Front
from embedded.clickhouse.settings import Settings
from embedded.clickhouse.users import Users

_log = logging.getLogger("embedded.clickhouse")


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then lets queries in flight finish and closes the engine.

    Raises:
        ValueError: the users file can't be used.
        EngineLockedError: another process has the data folder open.
        OSError: the address can't be bound.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    users = Users.load(settings.users_file)
    engine = Engine(settings.data_dir)
    # After the engine, which installs handlers of its own.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    quotas = {
        name: Quota(name, settings.read_only_queries, settings.read_only_seconds)
        for name, user in users.users.items()
        if user.readonly
    }
    queries = Queries(engine, settings.connections, quotas)
    runner = web.AppRunner(
        Front(engine, queries, users).application(),
        access_log=None,
        auto_decompress=False,
        # A client that goes away takes its query with it.
        handler_cancellation=True,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
        shutdown_timeout=settings.shutdown_grace_seconds,
    )
    try:
        await runner.setup()
        site = web.TCPSite(runner, settings.host, settings.port, backlog=512)
        await site.start()
        host, port = runner.addresses[0][:2]
        _log.info("ClickHouse %s on http://%s:%s, data in %s", engine.version, host, port, settings.data_dir)
        await stop.wait()
        _log.info("stopping")
    finally:
        await runner.cleanup()
        await queries.close()
        engine.close()


def main() -> int:
    """Starts the front; an error that an operator can mend is one sentence, and exit status 2."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        settings = Settings()  # type: ignore[call-arg]  # from the environment
        asyncio.run(serve(settings))
    except ValidationError as exc:
        first = exc.errors(include_input=False)[0]
        name = "_".join(str(part) for part in first["loc"])
        return _fail(f"GYRE_EMBEDDED_CLICKHOUSE_{name.upper()}: {first['msg']}")
    except (ValueError, EngineLockedError) as exc:
        return _fail(str(exc))
    except ClickHouseError as exc:
        return _fail(f"the engine could not open the data folder {settings.data_dir}: {exc.text}")
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            return _fail(
                f"port {settings.port} on {settings.host} is taken; set GYRE_EMBEDDED_CLICKHOUSE_PORT to another one"
            )
        return _fail(f"could not start: {exc}")
    return 0


def _fail(why: str) -> int:
    _log.error("%s", why)
    return 2


if __name__ == "__main__":
    sys.exit(main())
