"""The one error that leaves this package: a ClickHouse exception, with its code, text and HTTP status."""

from __future__ import annotations

import re

_BAD_REQUEST = 400
_FORBIDDEN = 403
_NOT_FOUND = 404

# As documented for ClickHouse's HTTP interface; any other code is a 500.
_HTTP_STATUS_BY_CODE = {
    **dict.fromkeys(
        # Text, dates, numbers, identifiers or SQL that can't be parsed, and values that don't fit their type.
        (6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675, 676),
        _BAD_REQUEST,
    ),
    **dict.fromkeys((192, 193, 497, 512, 516), _FORBIDDEN),
    # A table, function, column, type, engine, setting, format, database or role that doesn't exist.
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511), _NOT_FOUND),
    48: 501,
    76: 503,
    159: 408,
    194: 401,
    209: 503,
    229: 413,
    381: 411,
    439: 503,
    779: 415,
}

# What the system refuses is an exception of its own: `Code: 76. DB::ErrnoException: Cannot open file ...`.
_PREFIX = re.compile(r"Code: (\d+)\. DB::(?:Errno)?Exception: ")
_FOREIGN = re.compile(r"std::exception\. Code: (\d+),")
_TRAILER = re.compile(r"\.?\s*\((?:version [^()]*(?:\([^()]*\))?|([A-Z][A-Z0-9_]+))\)$")


class ClickHouseError(Exception):
    """A query that ClickHouse refuses or fails.

    Attributes:
        code: ClickHouse's error code, for example 62.
        text: what ClickHouse prints, without the version: `Code: 62. DB::Exception: ... (SYNTAX_ERROR)`.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @classmethod
    def named(cls, code: int, name: str, message: str) -> ClickHouseError:
        """Makes an error in ClickHouse's wording from its code, symbolic name and message."""
        return cls(code, f"Code: {code}. DB::Exception: {message} ({name})")

    @classmethod
    def from_engine(cls, text: str) -> ClickHouseError:
        """Reads the error that chDB raised.

        chDB repeats the prefix and the trailer once per layer that the exception passed; a server sends each once.
        """
        prefix = _PREFIX.search(text)
        if prefix is None:
            foreign = _FOREIGN.search(text)
            if foreign is not None:
                return cls(int(foreign[1]), _without_trailers(text[foreign.start() :])[0])
            return cls.named(1001, "STD_EXCEPTION", text.strip())
        message = text[prefix.end() :]
        while (again := _PREFIX.match(message)) is not None:
            message = message[again.end() :]
        message, name = _without_trailers(message)
        if name is None:
            return cls(int(prefix[1]), f"Code: {prefix[1]}. DB::Exception: {message}")
        return cls.named(int(prefix[1]), name, f"{message}.")

    @property
    def http_status(self) -> int:
        """The HTTP status that ClickHouse answers this code with."""
        return _HTTP_STATUS_BY_CODE.get(self.code, 500)


def _without_trailers(text: str) -> tuple[str, str | None]:
    """Cuts `. (NAME) (version 1.2)` off, however often; returns what is left and the name."""
    name = None
    text = text.rstrip()
    while (trailer := _TRAILER.search(text)) is not None:
        name = trailer[1] or name
        text = text[: trailer.start()].rstrip()
    return text, name
