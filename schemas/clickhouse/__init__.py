"""The ClickHouse tables and views: numbered files of statements, which audit applies at start.

Each topic has one table, named after it (`router.interactions.v1` is in `gyre.router_interactions_v1`): first the
envelope, whose names begin with an underscore, then the event's fields. Analysts use the views.

To change something, change a view's file, add a column in `0012_columns.sql` (to a table of a later file, right behind
that table), or a setting in `0021_parts.sql`. The statement that makes a table never changes, as tables that exist
already would not follow it, nor does a rollup's: its rows would not. A rollup is a table with a time to live that a
materialized view, named after it, fills from a topic's table; audit counts it anew, by month and Kafka partition, where
it does not hold what the topic's table does.

Where an operator has made the database `gyre` with the engine Replicated, before audit first starts, audit makes each
table with the replicated engine of the one that its file names.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from schemas import avro
from schemas.events import EVENTS
from schemas.topics import Topic

FOLDER = Path(__file__).parent
DATABASE = "gyre"

# The header of each row in the hash chain, and what it is computed from.
ENVELOPE = {
    "_topic": "String",
    "_partition": "UInt32",
    "_offset": "UInt64",
    "_timestamp": "DateTime64(3, 'UTC')",
    "_key": "String",
    "_schema_id": "UInt32",
    "_prev_hash": "FixedString(32)",
    "_salt": "FixedString(16)",
    "_digest": "FixedString(32)",
    "_hash": "FixedString(32)",
    "_payload": "String",
    "_error": "String",
}
ENGINES = {"MergeTree", "ReplacingMergeTree", "AggregatingMergeTree"}
# What the rows of a rollup are counted anew by: the month of the records, and their partition.
_RECOUNTED_BY = ("month", "partition")
# How many months before this one a rollup is sure to have.
ROLLUP_MONTHS = 13

_NAME = re.compile(r"(?P<number>\d{4})_(?P<slug>[a-z0-9_]+)\.sql")
_CREATE_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (?P<name>\S+)\s*\((?P<body>.*?)\n\)\s*(?P<rest>.*)", re.DOTALL)
_CREATE_VIEW = re.compile(r"CREATE OR REPLACE VIEW (?P<name>\S+)\s*\((?P<body>.*?)\n\)\s*AS\b(?P<rest>.*)", re.DOTALL)
_CREATE_FEED = re.compile(
    r"CREATE MATERIALIZED VIEW IF NOT EXISTS (?P<name>\S+) TO (?P<rollup>\S+) AS\s+(?P<query>(?:WITH\b.*?)?SELECT\b"
    r"(?P<columns>.*?)\nFROM (?P<source>\S+).*?)\n(?P<rest>COMMENT .*)",
    re.DOTALL,
)
_ADD_COLUMN = re.compile(
    r"ALTER TABLE (?P<name>\S+) ADD COLUMN IF NOT EXISTS (?P<column>\w+) (?P<type>.+?)(?: DEFAULT \S+)? COMMENT '.+'",
    re.DOTALL,
)
_MODIFY_SETTING = re.compile(r"ALTER TABLE (?P<name>\S+) MODIFY SETTING \w+ = \S+")
_CREATE_DATABASE = re.compile(r"CREATE DATABASE IF NOT EXISTS (?P<name>\S+) COMMENT '.+'", re.DOTALL)
_ENGINE = re.compile(r"^ENGINE = (?=\w*MergeTree\b)", re.MULTILINE)
_COMMENT = r"COMMENT\s+'(?:[^'\\]|\\.)+'"
_COLUMN = re.compile(
    rf"(?P<name>\w+)\s+(?P<type>.+?)(?:\s+DEFAULT\s+.+?)?(?:\s+CODEC\([\w, ]+\))?\s+(?P<comment>{_COMMENT})", re.DOTALL
)
_SNAKE_CASE = re.compile(r"_?[a-z][a-z0-9]*(?:_[a-z0-9]+)*")


@dataclass(frozen=True)
class Rollup:
    """A table of counts that a materialized view fills.

    Attributes:
        name: Of the table.
        source: Table whose rows are counted.
        query: What the materialized view asks of each insert.
    """

    name: str
    source: str
    query: str


@dataclass(frozen=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hexadecimal: a file is applied again when it has changed."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """The statements, in order, without the lines that are comments."""
        lines = [line for line in self.text.splitlines() if not line.lstrip().startswith("--")]
        return [part.strip() for part in re.split(r";\s*(?:\n|$)", "\n".join(lines)) if part.strip()]


def table(topic: Topic) -> str:
    """Return the name, in the database `gyre`, of the table that holds the records of a topic."""
    return re.sub("[.-]", "_", topic)


def migrations(folder: Path = FOLDER) -> list[Migration]:
    """Return the files in the order in which they are applied.

    Raises:
        ValueError: A file's name is not `<four digits>_<snake_case>.sql`.
    """
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise ValueError(f"{path.name}: is not named <four digits>_<snake_case>.sql")
        found.append(Migration(int(match["number"]), path.name, path.read_text()))
    return found


def replicated(statement: str) -> str:
    """Return a statement that gives its table, if it makes one, to all replicas of a database of the engine Replicated.

    Such a database repeats statements on each replica, and leaves what a plain MergeTree holds to each.
    """
    return _ENGINE.sub("ENGINE = Replicated", statement)


def rollups(folder: Path = FOLDER) -> list[Rollup]:
    """Return the rollups, in the order of their files."""
    return [
        Rollup(feed["rollup"].removeprefix(f"{DATABASE}."), feed["source"].removeprefix(f"{DATABASE}."), feed["query"])
        for file in migrations(folder)
        for statement in file.statements
        if (feed := _CREATE_FEED.fullmatch(statement))
    ]


def problems(folder: Path = FOLDER) -> list[str]:
    """Return what is wrong with the files, in sentences; nothing when all is well."""
    try:
        files = migrations(folder)
    except ValueError as error:
        return [str(error)]
    found = []
    numbers = [file.number for file in files]
    if numbers != list(range(1, len(files) + 1)):
        found.append(f"the files are numbered {numbers}: wanted 1 to {len(files)}, each once")
    tables: dict[str, dict[str, str]] = {}
    for file in files:
        for statement in file.statements:
            found += [f"{file.name}: {problem}" for problem in _statement_problems(statement, tables)]
    for topic in Topic:
        found += _topic_problems(topic, tables.get(f"{DATABASE}.{table(topic)}"))
    return found


def _statement_problems(statement: str, tables: dict[str, dict[str, str]]) -> list[str]:
    """Return what is wrong with one statement; what it adds to a table is added to `tables`."""
    first = statement.splitlines()[0]
    if _CREATE_DATABASE.fullmatch(statement):
        return []
    if added := _ADD_COLUMN.fullmatch(statement):
        tables.setdefault(added["name"], {})[added["column"]] = _plain(added["type"])
        return _name_problems(added["name"], [added["column"]])
    if setting := _MODIFY_SETTING.fullmatch(statement):
        return [] if setting["name"] in tables else [f"{setting['name']} has a setting and is no table"]
    if feed := _CREATE_FEED.fullmatch(statement):
        return _feed_problems(feed, tables)
    created = _CREATE_TABLE.fullmatch(statement)
    match = created or _CREATE_VIEW.fullmatch(statement)
    if match is None:
        return [
            f"`{first}` is not CREATE DATABASE or TABLE IF NOT EXISTS, CREATE OR REPLACE VIEW with its columns, CREATE "
            "MATERIALIZED VIEW IF NOT EXISTS TO a rollup, or ALTER TABLE ADD COLUMN IF NOT EXISTS, with a COMMENT, or "
            "MODIFY SETTING of one"
        ]
    found = []
    if not re.search(rf"{_COMMENT}\s*$", match["rest"]):
        found.append(f"{match['name']} has no COMMENT at its end")
    columns: dict[str, str] = {}
    for entry in _entries(match["body"]):
        if created and entry.startswith(("CONSTRAINT ", "INDEX ")):
            continue
        column = _COLUMN.fullmatch(entry)
        if column is None:
            found.append(f"{match['name']}: `{entry.splitlines()[0]}` is not a column with a type and a COMMENT")
            continue
        columns[column["name"]] = _plain(column["type"])
    if created:
        engine = re.match(r"ENGINE = (\w+)", match["rest"])
        if engine is None or engine[1] not in ENGINES:
            found.append(f"{match['name']}: the engine is not one of {', '.join(sorted(ENGINES))}")
        elif engine[1] == "AggregatingMergeTree":
            found += _rollup_problems(match["name"], columns, match["rest"])
        elif re.search(r"\bTTL\b", match["rest"]):
            found.append(f"{match['name']} has a TTL, and the record is for good")
        tables[match["name"]] = columns
    return found + _name_problems(match["name"], list(columns))


def _rollup_problems(name: str, columns: dict[str, str], rest: str) -> list[str]:
    """Return what is wrong with a table of counts: rows with the same key are merged into one, and old ones go."""
    key = re.search(r"\nORDER BY \(([\w, ]+)\)", rest)
    keys = key[1].split(", ") if key else []
    found = [
        f"{name}.{column} is neither in ORDER BY nor an aggregate, so merging rows would lose it"
        for column, type_ in columns.items()
        if column not in keys and not re.match(r"(Simple)?AggregateFunction\(", type_)
    ]
    found += [f"{name}: ORDER BY lacks {column}" for column in _RECOUNTED_BY if column not in keys]
    if columns.get("records") != "SimpleAggregateFunction(sum, UInt64)":
        found.append(f"{name} has no column records that sums up the rows of its source")
    if f"\nTTL month + INTERVAL {ROLLUP_MONTHS + 1} MONTH\n" not in rest:
        found.append(f"{name}: wanted TTL month + INTERVAL {ROLLUP_MONTHS + 1} MONTH")
    return found


def _feed_problems(feed: re.Match[str], tables: dict[str, dict[str, str]]) -> list[str]:
    """Return what is wrong with a materialized view."""
    found = []
    if feed["name"] != f"{feed['rollup']}_feed":
        found.append(f"{feed['name']} fills {feed['rollup']}: its name is wanted to be {feed['rollup']}_feed")
    if not re.fullmatch(_COMMENT, feed["rest"].strip()):
        found.append(f"{feed['name']} has no COMMENT at its end")
    if feed["source"] not in {f"{DATABASE}.{table(topic)}" for topic in Topic}:
        found.append(f"{feed['name']} reads {feed['source']}, which is no topic's table")
    # By name, and a column that is missing would silently get its default.
    wanted = list(tables.get(feed["rollup"], {}))
    columns = [re.split(r"\s+AS\s+|\s+", entry)[-1] for entry in _entries(feed["columns"])]
    if columns != wanted:
        found.append(f"{feed['name']} selects {', '.join(columns)}: wanted {', '.join(wanted)}")
    return found


def _name_problems(name: str, columns: list[str]) -> list[str]:
    found = []
    database, _, own = name.partition(".")
    if database != DATABASE or not _SNAKE_CASE.fullmatch(own):
        found.append(f"{name} is not {DATABASE}.<snake_case>")
    found += [f"{name}.{column} is not in snake case" for column in columns if not _SNAKE_CASE.fullmatch(column)]
    return found


def _topic_problems(topic: Topic, columns: dict[str, str] | None) -> list[str]:
    own = f"{DATABASE}.{table(topic)}"
    if columns is None:
        return [f"{topic} has no table {own}"]
    wanted = {**ENVELOPE, **_field_types(topic)}
    found = [
        f"{own}.{name} is {columns.get(name, 'missing')}, wanted {wanted_type}"
        for name, wanted_type in wanted.items()
        if columns.get(name) != wanted_type
    ]
    found += [f"{own}.{name} is no field of the event" for name in columns if name not in wanted]
    return found


def _field_types(topic: Topic) -> dict[str, str]:
    """Return the type of the column that ClickHouse's Avro input fills from each field of a topic's event."""
    records: dict[str, avro.AvroSchema] = {}

    def clickhouse_type(schema: avro.AvroSchema) -> str:
        if isinstance(schema, list):
            return f"Nullable({clickhouse_type(schema[1])})"
        if isinstance(schema, dict):
            if schema["type"] == "array":
                return f"Array({clickhouse_type(schema['items'])})"
            if schema["type"] == "record":
                records[f"gyre.{schema['name']}"] = schema
                fields = [f"{field['name']} {clickhouse_type(field['type'])}" for field in schema["fields"]]
                return f"Tuple({', '.join(fields)})"
            if schema.get("logicalType") == "timestamp-micros":
                return "DateTime64(6, 'UTC')"
            return clickhouse_type(schema["type"])
        if schema in records:
            return clickhouse_type(records[schema])
        return {"string": "String", "bytes": "String", "long": "Int64", "double": "Float64", "boolean": "Bool"}[schema]

    return {field["name"]: clickhouse_type(field["type"]) for field in avro.derive(EVENTS[topic])["fields"]}


def _plain(written: str) -> str:
    """Return a type in one line, without LowCardinality, which is a matter of storage."""
    one_line = re.sub(r"\s+", " ", written).replace("( ", "(").replace(" )", ")")
    return re.sub(r"LowCardinality\((\w+)\)", r"\1", one_line)


def _entries(body: str) -> list[str]:
    """Split what stands between a statement's outer brackets at the commas that are not inside brackets or quotes."""
    entries, depth, quoted, start = [], 0, False, 0
    for position, character in enumerate(body):
        if character == "'" and body[position - 1] != "\\":
            quoted = not quoted
        elif not quoted and character in "()":
            depth += 1 if character == "(" else -1
        elif not quoted and character == "," and depth == 0:
            entries.append(body[start:position].strip())
            start = position + 1
    return [*entries, body[start:].strip()]
