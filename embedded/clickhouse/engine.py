"""The chDB engine: one data folder, many connections, and what makes it behave like a server.

chDB is `clickhouse local` in a library, so it trusts its caller with the whole machine. Here the caller is a network
client; what a server would not let it do is taken away by grants (no access to files, no dictionaries, whose sources
may run programs), by replacing the `default` database, which in `clickhouse local` is a view of the file system, and
by sql.py.
"""

from __future__ import annotations

import fcntl
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from xml.sax.saxutils import escape

from chdb.state import sqlitelike

from embedded.clickhouse.errors import ClickHouseError
from embedded.clickhouse.sql import check_values

_GRANTS = (
    "GRANT CHECK, SHOW, SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE TEMPORARY TABLE, "
    "CREATE ARBITRARY TEMPORARY TABLE, CREATE FUNCTION, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, BACKUP, KILL QUERY, "
    "KILL TRANSACTION, MOVE PARTITION BETWEEN SHARDS, SYSTEM, dictGet, INTROSPECTION ON *.*",
    # Engines that keep their data in the data folder, and none that reads files, programs or other machines.
    *(
        f"GRANT TABLE ENGINE ON {engine}"
        for engine in (
            *("MergeTree", "ReplacingMergeTree", "SummingMergeTree", "AggregatingMergeTree", "CollapsingMergeTree"),
            *("VersionedCollapsingMergeTree", "GraphiteMergeTree", "CoalescingMergeTree"),
            *("Memory", "Log", "TinyLog", "StripeLog", "Null", "Set", "Join", "Buffer", "Merge", "GenerateRandom"),
            *("View", "MaterializedView"),
        )
    ),
)
# The engine (26.9) may commit a merge that meets a full disk though its files are empty, and drops what was merged. So
# it begins none, and takes no rows, while there is less room than this.
_KEPT_FREE_BYTES = 128 << 20
# No system log tables: none is configured, so the engine keeps none.
_SERVER_CONFIG = """\
<clickhouse>
    <display_name>{display_name}</display_name>
    <user_files_path>{user_files}/</user_files_path>
    <users_config>{users_config}</users_config>
    <storage_configuration>
        <disks><default><keep_free_space_bytes>{kept_free_bytes}</keep_free_space_bytes></default></disks>
    </storage_configuration>
    <access_control_improvements>
        <table_engines_require_grant>true</table_engines_require_grant>
    </access_control_improvements>
</clickhouse>
"""
_USERS_CONFIG = """\
<clickhouse>
    <profiles><default/></profiles>
    <quotas><default/></quotas>
    <users>
        <default>
            <password/>
            <networks><ip>::/0</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <grants>{grants}</grants>
        </default>
    </users>
</clickhouse>
"""
# Where chDB's defaults are not a server's.
_SERVER_DEFAULTS = {"implicit_select": "0", "allow_introspection_functions": "0"}


class EngineLockedError(Exception):
    """Another process has the data folder open."""


class QueryResult(Protocol):
    """What chDB returns for a statement that ran."""

    def bytes(self) -> bytes:
        """The whole output, in the output format; nothing if it went into a file."""
        ...

    def rows_read(self) -> int:
        """Rows in the output."""
        ...

    def bytes_read(self) -> int:
        """Bytes in the output, in memory."""
        ...

    def storage_rows_read(self) -> int:
        """Rows that were read to make the output."""
        ...

    def storage_bytes_read(self) -> int:
        """Bytes that were read to make the output."""
        ...

    def rows_written(self) -> int:
        """Rows that were inserted."""
        ...

    def bytes_written(self) -> int:
        """Bytes that were inserted, in memory."""
        ...


class Connection:
    """One chDB connection: its settings, database and temporary tables are its own. Its methods block.

    Every method raises ClickHouseError where the engine refuses.
    """

    def __init__(self, connection_string: str) -> None:
        with _engine_errors():
            self._inner = sqlitelike.Connection(connection_string)

    def execute(
        self, sql: bytes | str, format: str = "TabSeparated", parameters: Mapping[str, str] | None = None
    ) -> QueryResult:
        """Runs one statement and returns its answer in the given format."""
        with _engine_errors():
            result: QueryResult = self._inner.query(sql, format, params=dict(parameters or {}))  # type: ignore[arg-type]  # bytes are taken, so that a statement needn't be UTF-8
        return result

    def insert(
        self, before_data: bytes, settings: bytes, format: str, path: Path, parameters: Mapping[str, str] | None = None
    ) -> QueryResult:
        """Runs an INSERT whose data lies in a file; when it returns, every row is written.

        chDB's own way to hand data over (`send_insert`) is not used: it drops errors of the writing side, such as a
        violated constraint or too many parts, and counts the rows as written.

        Args:
            before_data: the statement up to where its SETTINGS or its data begin.
            settings: its SETTINGS clause, or nothing.
            format: of the data.
            path: of the file with the data.
            parameters: the query's parameters.
        """
        if format.upper() == "VALUES":
            with path.open("rb") as data:
                check_values(data)
        infile = f" FROM INFILE {quote(str(path))}"
        try:
            return self.execute(
                b"%s\n%s %s\nFORMAT %s" % (before_data, infile.encode(), settings, format.encode()),
                parameters=parameters,
            )
        except ClickHouseError as error:
            # The client knows nothing of our file.
            text = error.text.replace(infile, "").replace(f": (in file/uri {path})", "")
            text = text.replace(": While executing File: data for INSERT was parsed from file", "")
            raise ClickHouseError(error.code, text.replace(str(path), "")) from error

    def set(self, settings: Mapping[str, str]) -> None:
        """Changes settings of this connection."""
        if settings:
            self.execute("SET " + ", ".join(f"{name} = {quote(value)}" for name, value in settings.items()))

    def use(self, database: str) -> None:
        """Changes the current database."""
        self.execute(f"USE {quote_identifier(database)}")

    @contextmanager
    def override(self, settings: Mapping[str, str], database: str | None) -> Iterator[None]:
        """Applies settings and database for one statement, for a connection that lives on after it."""
        if not settings and database is None:
            yield
            return
        names = ", ".join(quote(name) for name in settings)
        before = (
            self.text(f"SELECT name, value, changed FROM system.settings WHERE name IN ({names})") if settings else ""  # noqa: S608  # names are quoted
        )
        current = self.text("SELECT currentDatabase()").strip()
        if database is not None:
            self.use(database)
        try:
            self.set(settings)
            yield
        finally:
            changes = []
            for line in before.splitlines():
                name, value, changed = line.split("\t")
                # The value comes back escaped as TabSeparated, which is how a string literal escapes it too.
                changes.append(f"{name} = '{value}'" if changed == "1" else f"{name} = DEFAULT")
            if changes:
                self.execute("SET " + ", ".join(changes))
            if database is not None:
                self.use(current)

    def text(self, sql: str) -> str:
        """Runs one statement and returns its answer as TabSeparated text."""
        return self.execute(sql).bytes().decode()

    def close(self) -> None:
        """Ends the connection; its temporary tables go with it."""
        self._inner.close()


class Engine:
    """The engine over one data folder, which no other process may have open.

    Attributes:
        version, timezone, display_name: what the engine says of itself.
        content_type_by_format: the Content-Type that ClickHouse gives to each output format.
    """

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = (data_dir / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise EngineLockedError(f"the data folder {data_dir} is in use by another process") from None
        # For the pipes that answers come through, and for the data of inserts until they are done.
        self.pipes_dir, self.uploads_dir = data_dir / "pipes", data_dir / "uploads"
        for folder in (self.pipes_dir, self.uploads_dir):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
        store = data_dir / "engine"
        config = _write_config(data_dir)
        self._connection_string = f"{store}?config-file={config}"
        # The engine makes a database's folder with its first table, and cannot attach one that has none.
        is_new = not (store / "metadata" / "default").exists()
        if is_new:
            (store / "metadata" / "default.sql").unlink(missing_ok=True)
        self._keeper = Connection(self._connection_string)
        self._keeper_lock = threading.Lock()
        if is_new:
            self._keeper.execute("DROP DATABASE default")
            self._keeper.execute("CREATE DATABASE default ENGINE = Atomic")
        else:
            self._keeper.execute("DETACH DATABASE default")
            self._keeper.execute("ATTACH DATABASE default")
        self.version = self._keeper.text("SELECT version()").strip()
        self.timezone = self._keeper.text("SELECT timezone()").strip()
        self.display_name = self._keeper.text("SELECT displayName()").strip()
        formats = self._keeper.text("SELECT name, content_type FROM system.formats WHERE is_output")
        self.content_type_by_format = dict(line.split("\t") for line in formats.splitlines())

    def connect(self) -> Connection:
        """Opens a connection that starts from a server's defaults. It takes about a millisecond."""
        connection = Connection(self._connection_string)
        connection.set(_SERVER_DEFAULTS)
        return connection

    def kill(self, tag: str) -> None:
        """Cancels the running statement whose text holds `tag`; one that has ended is no error."""
        with self._keeper_lock:
            self._keeper.execute(f"KILL QUERY WHERE {running_with(tag)} ASYNC")

    def close(self) -> None:
        """Closes the engine, which writes what it holds; every other connection must be closed."""
        self._keeper.close()
        self._lock.close()


def running_with(tag: str) -> str:
    """The condition on system.processes that finds the statement whose text holds `tag`, and not itself."""
    middle = len(tag) // 2
    return f"position(query, concat({quote(tag[:middle])}, {quote(tag[middle:])})) > 0"


def quote(value: str) -> str:
    """Writes a string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_identifier(name: str) -> str:
    """Writes an identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


@contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except Exception as exc:  # chDB raises RuntimeError, its subclass ChdbError, and whatever pybind11 maps to
        cause: Any = exc.__cause__ or exc
        # A message that quotes bytes, as of a violated constraint, is no text, and what is raised is this instead.
        text = cause.object.decode(errors="replace") if isinstance(cause, UnicodeDecodeError) else str(cause)
        raise ClickHouseError.from_engine(text) from exc


def _write_config(data_dir: Path) -> Path:
    folder = data_dir / "config"
    user_files = data_dir / "user_files"
    for path in (folder, user_files):
        path.mkdir(mode=0o700, exist_ok=True)
    users = folder / "users.xml"
    grants = "".join(f"<query>{grant}</query>" for grant in _GRANTS)
    users.write_text(_USERS_CONFIG.format(grants=grants))
    config = folder / "config.xml"
    config.write_text(
        _SERVER_CONFIG.format(
            display_name=escape(socket.gethostname()),
            user_files=escape(str(user_files)),
            users_config=escape(str(users)),
            kept_free_bytes=_KEPT_FREE_BYTES,
        )
    )
    return config
