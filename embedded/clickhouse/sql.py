"""As much of ClickHouse's grammar as its HTTP interface needs: where the FORMAT clause is and where insert data begins.

Everything else is the engine's business: what isn't recognised here is handed on, and the engine says what is wrong.
"""

from __future__ import annotations

import enum
import itertools
import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from embedded.clickhouse.errors import ClickHouseError

# Typographic quotation marks (in UTF-8) are quotation marks to ClickHouse, too.
_TOKEN = re.compile(
    rb"""
    (?P<space>\s+|--[^\n]*|\#[!\s][^\n]*|/\*.*?\*/)
    |(?P<string>'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'|\xe2\x80\x98.*?\xe2\x80\x99)
    |(?P<quoted>\xe2\x80\x9c.*?\xe2\x80\x9d|"[^"\\]*(?:(?:\\.|"")[^"\\]*)*"|`[^`\\]*(?:(?:\\.|``)[^`\\]*)*`)
    |(?P<heredoc>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    |(?P<word>[A-Za-z_][A-Za-z0-9_$]*)
    |(?P<number>\d[\w.]*)
    |(?P<open>[(\[{])
    |(?P<close>[)\]}])
    |(?P<other>.)
    """,
    re.DOTALL | re.VERBOSE,
)
INPUT_TABLE = "_input"
_SPACES_THEN_NEWLINE = re.compile(rb"[ \t\f]*\r?\n?")
_READS_ROWS = frozenset(
    (b"SELECT", b"WITH", b"FROM", b"SHOW", b"DESCRIBE", b"DESC", b"EXISTS", b"EXPLAIN", b"CHECK", b"(")
)
# A server confines these to folders of its own or doesn't have them; chDB, an embedded engine, would let them read
# anything that this process can. Their table-function cousins are withheld by grants (see engine.py).
_LOCAL_ONLY_FUNCTIONS = frozenset((b"FILE", b"PYTHON", b"EXECUTABLE", b"EXECUTABLEPOOL"))
# Strict, because the engine looks for the end of a row without regard to comments, names in quotes and heredocs: all
# that may hold an apostrophe, a backslash or a bracket is a string. In runs, which bound the memory of a match.
_HARMLESS_VALUES = re.compile(
    rb"""
    (?:
        [^'"`$\\\-/\#\xe2A-Za-z_]++
        |'(?:[^'\\]++|\\.)*+(?:'|\\?\Z)
        |(?!(?:%(local)s)(?!\w))[A-Za-z_]\w*+
        |"(?!(?:%(local)s)")[\w\ .]*+"
        |`(?!(?:%(local)s)`)[\w\ .]*+`
        |--[^\n'"`\\()]*+(?:\n|\Z)
        |/\*[^*'"`\\()]*+\*/
        |-(?!-)|/(?!\*)
        |\xe2(?!\x80[\x98\x99\x9c\x9d])
    ){1,10000}+
    """
    % {b"local": b"|".join(sorted(_LOCAL_ONLY_FUNCTIONS))},
    re.DOTALL | re.VERBOSE | re.IGNORECASE,
)
_ENDS_AN_EXPRESSION = frozenset(("word", "quoted", "string", "number", "heredoc", "close"))
_FORMAT_CANNOT_FOLLOW = frozenset(
    (b"SELECT", b"DISTINCT", b"BY", b"WHERE", b"AND", b"OR", b"NOT", b"AS", b"ON", b"FROM")
)


class Kind(enum.Enum):
    """What a statement does with the connection."""

    ROWS = "answers rows and changes nothing"
    INSERT = "takes data that follows it"
    COMMAND = "changes something"
    SESSION = "SET or USE: changes only the session"
    KILL = "KILL QUERY"
    EMPTY = "nothing but space"


@dataclass(frozen=True)
class Token:
    """One token; `depth` counts the brackets around it, `text` is upper case for words."""

    kind: str
    text: bytes
    start: int
    end: int
    depth: int


@dataclass(frozen=True)
class Statement:
    """One statement, taken apart at its FORMAT clause.

    Attributes:
        kind: what it does.
        before_format: the statement up to its FORMAT clause (or its end); of an INSERT that data follows, up to its
            SETTINGS clause.
        after_format: a SETTINGS clause that came after FORMAT, or that of an INSERT; or nothing.
        format: the format it names, for its answer or, for an INSERT, for its data.
        data_start: where in the text the data of an INSERT begins; None where there is none.
        input_structure: the columns of an INSERT's `input(...)`, which chDB doesn't feed; `before_format` reads from
            `INPUT_TABLE` in its place.
    """

    kind: Kind
    before_format: bytes
    after_format: bytes = b""
    format: str | None = None
    data_start: int | None = None
    input_structure: str | None = None


def parse(text: bytes) -> Statement:
    """Takes one statement apart.

    Raises:
        ClickHouseError: several statements in one; INTO OUTFILE or FROM INFILE, which are for a client program, not
            for a server; a function that reads the server's own machine.
    """
    tokens = _tokens(text)
    first = next(tokens, None)
    if first is None:
        return Statement(Kind.EMPTY, text)
    if first.text == b"INSERT":
        return _parse_insert(text, tokens)
    rest = [first, *tokens]
    end = _end_of_statement(text, rest)
    rest = [token for token in rest if token.start < end]
    _refuse_local_functions(rest)
    _refuse_outfile(rest)
    at = _format_clause(rest)
    kind = _kind(rest)
    if at is None:
        return Statement(kind, text[:end])
    return Statement(
        kind,
        before_format=text[: rest[at].start],
        after_format=text[rest[at + 1].end : end],
        format=text[rest[at + 1].start : rest[at + 1].end].decode(),
    )


def check_structure(structure: str) -> None:
    """Checks that the columns of a table, which go between brackets, can't end those brackets or read this machine.

    Raises:
        ClickHouseError: they hold a bracket that closes none of theirs, a semicolon, or a default that calls a
            function that reads the server's own machine.
    """
    open_brackets = 0
    tokens = list(_tokens(structure.encode()))
    _refuse_local_functions(tokens)
    for token in tokens:
        open_brackets += (token.kind == "open") - (token.kind == "close")
        if open_brackets < 0 or token.text in (b";", b"'", b'"', b"`"):
            raise ClickHouseError.named(62, "SYNTAX_ERROR", f"Syntax error: '{structure}' is not a list of columns.")


def check_values(data: BinaryIO) -> None:
    """Checks the data of a VALUES clause, a file, whose expressions the engine runs.

    Raises:
        ClickHouseError: outside its strings the data names a function that reads the server's own machine, or holds
            what makes that hard to tell.
    """
    if os.fstat(data.fileno()).st_size == 0:
        return
    with mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ) as text:
        end = 0
        while end < len(text):
            match = _HARMLESS_VALUES.match(text, end)
            if match is None:
                raise ClickHouseError.named(
                    497,
                    "ACCESS_DENIED",
                    f"Not enough privileges. The data of VALUES, at byte {end + 1}, may not call functions that read "
                    "the server's files (it's necessary to have the grant READ ON FILE), nor hold heredocs, "
                    "typographic quotation marks, or quotation marks or brackets in comments or quoted names.",
                )
            end = match.end()


def _kind(tokens: list[Token]) -> Kind:
    first = tokens[0].text
    if first in (b"SET", b"USE"):
        return Kind.SESSION
    if first == b"KILL":
        return Kind.KILL
    if first in _READS_ROWS and not (first == b"WITH" and any(_is(token, b"INSERT") for token in tokens)):
        return Kind.ROWS
    return Kind.COMMAND


def _parse_insert(text: bytes, tokens: Iterator[Token]) -> Statement:
    """INSERT [INTO] [TABLE] [FUNCTION] name [(columns)] [SETTINGS ...] and then data, VALUES or a query.

    The text may be only the beginning of the request: tokens are taken no further than where the data starts.
    """
    seen: list[Token] = []
    previous: Token | None = None
    settings: int | None = None
    named = False
    for token in tokens:
        seen.append(token)
        if token.depth == 0 and token.kind in ("word", "quoted", "close", "other"):
            if not named:
                # A table may be called `values` or `format`: the first word after INTO [TABLE] [FUNCTION] is its name.
                named = token.kind != "word" or token.text not in (b"INTO", b"TABLE", b"FUNCTION")
            elif previous is not None and previous.text == b".":
                pass
            elif token.kind == "word" and token.text == b"VALUES":
                _refuse_local_functions(seen)
                return _insert(text, token.start, settings, "Values", token.end)
            elif token.kind == "word" and token.text == b"SETTINGS":
                settings = token.start
            elif token.kind == "word" and token.text == b"FORMAT":
                return _insert_with_format(text, token, settings, tokens, seen)
            elif token.kind == "word" and token.text == b"INFILE":
                raise ClickHouseError.named(
                    78, "UNKNOWN_TYPE_OF_QUERY", "Query has infile and was send directly to server."
                )
            elif token.kind == "word" and token.text in (b"SELECT", b"WITH"):
                return _insert_from_query(text, [*seen, *tokens])
        elif token.kind == "open" and token.depth == 0 and token.text == b"(":
            following = next(tokens, None)
            if following is not None:
                seen.append(following)
                if following.text in (b"SELECT", b"WITH"):
                    return _insert_from_query(text, [*seen, *tokens])
                named = True
                if following.kind == "close":
                    token = following
        previous = token
    return Statement(Kind.COMMAND, text)


def _insert(text: bytes, end: int, settings: int | None, data_format: str, data_start: int) -> Statement:
    settings = end if settings is None else settings
    return Statement(Kind.INSERT, text[:settings], text[settings:end], data_format, data_start)


def _insert_with_format(
    text: bytes, keyword: Token, settings: int | None, tokens: Iterator[Token], seen: list[Token]
) -> Statement:
    _refuse_local_functions(seen)
    name = next(tokens, None)
    if name is None or name.kind != "word":
        return Statement(Kind.COMMAND, text)
    gap = _SPACES_THEN_NEWLINE.match(text, name.end)
    assert gap is not None
    return _insert(text, keyword.start, settings, text[name.start : name.end].decode(), gap.end())


def _insert_from_query(text: bytes, tokens: list[Token]) -> Statement:
    """INSERT ... SELECT. With `input('columns')` the rows to select from follow a FORMAT clause."""
    for i, token in enumerate(tokens):
        if token.kind == "word" and token.text == b"INPUT" and tokens[i + 1 : i + 2] and tokens[i + 1].text == b"(":
            return _insert_from_input(text, tokens, i)
    end = _end_of_statement(text, tokens)
    _refuse_local_functions(tokens)
    return Statement(Kind.COMMAND, text[:end])


def _insert_from_input(text: bytes, tokens: list[Token], at: int) -> Statement:
    call = tokens[at : at + 4]
    keyword = next((i for i in range(at, len(tokens) - 1) if _is(tokens[i], b"FORMAT")), None)
    if [token.kind for token in call[2:]] != ["string", "close"] or keyword is None:
        raise ClickHouseError.named(
            48, "NOT_IMPLEMENTED", "input() needs its structure as a string, and a FORMAT clause before its data."
        )
    _refuse_local_functions(tokens[:keyword])
    name = tokens[keyword + 1]
    gap = _SPACES_THEN_NEWLINE.match(text, name.end)
    assert gap is not None
    structure = re.sub(rb"\\(.)|''", lambda match: match[1] or b"'", call[2].text[1:-1])
    return Statement(
        Kind.COMMAND,
        text[: call[0].start] + INPUT_TABLE.encode() + text[call[3].end : tokens[keyword].start],
        format=text[name.start : name.end].decode(),
        data_start=gap.end(),
        input_structure=structure.decode(errors="replace"),
    )


def _tokens(text: bytes) -> Iterator[Token]:
    depth = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        assert kind is not None
        if kind == "space":
            continue
        if kind == "close":
            depth = max(0, depth - 1)
        value = match.group()
        yield Token(
            kind,
            value.upper() if kind == "word" else value,
            match.start(),
            match.end(),
            depth,
        )
        if kind == "open":
            depth += 1


def _is(token: Token, word: bytes) -> bool:
    return token.kind == "word" and token.depth == 0 and token.text == word


def _end_of_statement(text: bytes, tokens: list[Token]) -> int:
    """Where the statement ends: before a final semicolon. More after that is refused, as over HTTP in ClickHouse."""
    for i, token in enumerate(tokens):
        if token.text == b";" and token.kind == "other":
            extra = next((later for later in tokens[i:] if later.text != b";"), None)
            if extra is not None:
                raise ClickHouseError.named(
                    62,
                    "SYNTAX_ERROR",
                    f"Syntax error (Multi-statements are not allowed): failed at position {token.start + 1} "
                    f"(end of query): {text[token.start : token.start + 100].decode(errors='replace')}.",
                )
            return token.start
    return len(text)


def _format_clause(tokens: list[Token]) -> int | None:
    """Index of the FORMAT keyword of a trailing `FORMAT name [SETTINGS ...]`, not of a column called format."""
    for i in range(len(tokens) - 2, 0, -1):
        if not _is(tokens[i], b"FORMAT") or tokens[i + 1].kind != "word":
            continue
        before = tokens[i - 1]
        if before.kind not in _ENDS_AN_EXPRESSION and before.text != b"*":
            continue
        if before.kind == "word" and before.text in _FORMAT_CANNOT_FOLLOW:
            continue
        if i + 2 == len(tokens) or _is(tokens[i + 2], b"SETTINGS"):
            return i
    return None


def _refuse_outfile(tokens: list[Token]) -> None:
    if any(_is(a, b"INTO") and _is(b, b"OUTFILE") for a, b in itertools.pairwise(tokens)):
        raise ClickHouseError.named(358, "INTO_OUTFILE_NOT_ALLOWED", "INTO OUTFILE is not allowed.")


def _refuse_local_functions(tokens: list[Token]) -> None:
    for i, (name, bracket) in enumerate(itertools.pairwise(tokens)):
        if bracket.text != b"(":
            continue
        plain = name.text.strip(b'`"\xe2\x80\x9c\x9d').upper() if name.kind in ("word", "quoted") else b""
        # An escape could spell any name.
        escaped = name.kind == "quoted" and b"\\" in name.text
        if plain in _LOCAL_ONLY_FUNCTIONS or escaped or (plain == b"FORMAT" and not _is_pattern(tokens[i + 2 : i + 3])):
            raise ClickHouseError.named(
                497,
                "ACCESS_DENIED",
                "Not enough privileges. To execute this query, it's necessary to have the grant READ ON FILE.",
            )


def _is_pattern(argument: list[Token]) -> bool:
    """Whether the first argument of `format(...)` makes it the function that fills a pattern in.

    The table function of that name reads text in any format, in which expressions (Values) and defaults are run. No
    format's name holds a brace.
    """
    return [token.kind for token in argument[:1]] == ["string"] and b"{" in argument[0].text
