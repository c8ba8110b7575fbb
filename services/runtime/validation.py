"""Checks protobuf messages against the protovalidate rules written in `protos/`.

The protovalidate library evaluates each rule as a CEL expression, at about 10 ms a request in Python: more than the
rest of the path. The rules in use are plain bounds, so they are read once from the descriptors and checked directly; a
contract test holds this to the library's verdict. A rule that is not known here stops the start (`UnknownRuleError`).

Documented at https://protovalidate.com/schemas/standard-rules/.
"""

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from buf.validate import validate_pb2

Check = Callable[[Any], str | None]  # a value to what was wanted, or nothing


class UnknownRuleError(NotImplementedError):
    """A rule in protos/ that this module does not know."""


def compile_rules(descriptor: Descriptor) -> None:
    """Read the rules of a message, so that an unknown one stops the start and not a call.

    Raises:
        UnknownRuleError: There is one.
    """
    _checks(descriptor)
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.file.package.startswith("gyre."):
            compile_rules(field.message_type)


def violations(message: Message) -> Iterator[tuple[str, str]]:
    """Yield the path of each field that breaks a rule, and what was wanted of it."""
    for check in _checks(message.DESCRIPTOR):
        yield from check(message)


@cache
def _checks(descriptor: Descriptor) -> list[Callable[[Message], Iterator[tuple[str, str]]]]:
    checks = [_field_check(field) for field in descriptor.fields]
    for oneof in descriptor.oneofs:
        if oneof.GetOptions().Extensions[validate_pb2.oneof].required:
            checks.append(_oneof_check(oneof.name))
    return [check for check in checks if check is not None]


def _oneof_check(name: str) -> Callable[[Message], Iterator[tuple[str, str]]]:
    def check(message: Message) -> Iterator[tuple[str, str]]:
        if message.WhichOneof(name) is None:
            yield name, "exactly one of its fields must be set"

    return check


def _field_check(field: FieldDescriptor) -> Callable[[Message], Iterator[tuple[str, str]]] | None:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    name = field.name
    nested = field.message_type is not None and field.message_type.file.package.startswith("gyre.")
    if field.is_repeated:
        whole, each = _repeated(rules), _scalar(field, rules.repeated.items)
        if not (whole or each or nested):
            return None

        def check_repeated(message: Message) -> Iterator[tuple[str, str]]:
            values = getattr(message, name)
            for wanted in _broken(whole, values):
                yield name, wanted
            if not (each or nested):
                return
            for position, value in enumerate(values):
                for wanted in _broken(each, value):
                    yield f"{name}[{position}]", wanted
                if nested:
                    for path, wanted in violations(value):
                        yield f"{name}[{position}].{path}", wanted

        return check_repeated
    checks = _scalar(field, rules)
    if not (checks or nested or rules.required):
        return None
    tracked = field.has_presence

    def check(message: Message) -> Iterator[tuple[str, str]]:
        present = not tracked or message.HasField(name)
        if not present:
            if rules.required:
                yield name, "must be set"
            return
        value = getattr(message, name)
        for wanted in _broken(checks, value):
            yield name, wanted
        if nested:
            for path, wanted in violations(value):
                yield f"{name}.{path}", wanted

    return check


def _broken(checks: list[Check], value: Any) -> Iterator[str]:
    for check in checks:
        wanted = check(value)
        if wanted is not None:
            yield wanted


def _repeated(rules: validate_pb2.FieldRules) -> list[Check]:
    checks: list[Check] = []
    for option, bound in rules.repeated.ListFields():
        if option.name != "items":
            checks.append(_rule("repeated", option.name)(bound))
    return checks


def _rule(kind: str, name: str) -> Callable[[Any], Check]:
    try:
        return _RULES[kind, name]
    except KeyError as error:
        raise UnknownRuleError(f"{kind}.{name}") from error


def _defined_only(known: Mapping[int, Any]) -> Check:
    return lambda v: None if v in known else f"must be one of {sorted(known)}, is {v}"


@cache
def _pattern(expression: str) -> re.Pattern[str]:
    # Unlike RE2's, Python's $ also stands before a line feed at the end.
    return re.compile(re.sub(r"\$$", r"\\Z", expression))


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _scalar(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> list[Check]:
    kind = rules.WhichOneof("type")
    if kind is None or kind == "repeated":
        return []
    family = kind if kind in ("string", "enum") else "number"
    return [
        _defined_only(field.enum_type.values_by_number)
        if (family, option.name) == ("enum", "defined_only")
        else _rule(family, option.name)(bound)
        for option, bound in getattr(rules, kind).ListFields()
    ]


_RULES: dict[tuple[str, str], Callable[[Any], Check]] = {
    ("string", "min_len"): lambda b: lambda v: None if len(v) >= b else f"must have at least {b} characters",
    ("string", "max_len"): lambda b: (
        lambda v: None if len(v) <= b else f"must have at most {b} characters, has {len(v)}"
    ),
    ("string", "max_bytes"): lambda b: (
        lambda v: (
            None if len(v) * 4 <= b or len(v.encode()) <= b else f"must have at most {b} bytes, has {len(v.encode())}"
        )
    ),
    ("string", "pattern"): lambda b: lambda v: None if _pattern(b).search(v) else f"must match {b}",
    ("string", "in"): lambda b: lambda v: None if v in b else f"must be one of {', '.join(b)}",
    ("string", "uuid"): lambda b: lambda v: None if _is_uuid(v) else "must be a UUID",
    ("repeated", "min_items"): lambda b: lambda v: None if len(v) >= b else f"must have at least {b} items",
    ("repeated", "max_items"): lambda b: (
        lambda v: None if len(v) <= b else f"must have at most {b} items, has {len(v)}"
    ),
    ("number", "lte"): lambda b: lambda v: None if v <= b else f"must be at most {b}, is {v}",
    ("number", "gte"): lambda b: lambda v: None if v >= b else f"must be at least {b}, is {v}",
    ("enum", "not_in"): lambda b: lambda v: None if v not in b else "must be set",
}
