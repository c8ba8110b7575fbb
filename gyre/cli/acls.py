"""Telling Kafka who may do what, for `gyre kafka acls`.

aiokafka has the messages of Kafka's protocol for this, and no methods of its admin client that send them.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest_v1, DeleteAclsRequest_v1, DescribeAclsRequest_v1
from aiokafka.protocol.api import Request

from schemas.access import Rule
from services.runtime.kafka import connection
from services.runtime.settings import KafkaSettings

# Kafka's own numbers for them.
_RESOURCES = {"topic": 2, "group": 3, "transactionalId": 5}
_OPERATIONS = {"Read": 3, "Write": 4, "Create": 5}
_ANY, _LITERAL, _PREFIXED, _ALLOW = 1, 3, 4, 3
_EVERY_HOST = "*"

_OPTIONS = {"topic": "--topic", "group": "--group", "transactionalId": "--transactional-id"}

_Filter = tuple[int, str, int, str, str, int, int]
"""Resource type, its name, kind of pattern, principal, host, operation, permission."""


class AclsError(Exception):
    """Kafka did not do what it was asked; the message says why."""


@dataclass(frozen=True)
class Changes:
    """What was changed at Kafka, each as its protocol has it."""

    added: Sequence[_Filter]
    removed: Sequence[_Filter]


def commands(rules: Iterable[Rule]) -> list[str]:
    """Return lines of a shell that allow what rules say, with the tool that comes with Kafka."""
    lines = []
    alike = itertools.groupby(rules, key=lambda rule: (rule.identity, rule.resource, rule.is_prefix, rule.operation))
    for (identity, resource, is_prefix, operation), some in alike:
        words = ["--add", "--allow-principal", f"User:{identity}", "--operation", operation]
        words += ["--resource-pattern-type", "prefixed"] if is_prefix else []
        for rule in some:
            words += [_OPTIONS[resource], rule.name]
        lines.append(f'kafka-acls.sh --bootstrap-server "$KAFKA" --command-config "$KAFKA_ADMIN" {shlex.join(words)}')
    return lines


def strimzi_user(identity: str, rules: Iterable[Rule], cluster: str) -> str:
    """Return an identity as a KafkaUser, from which Strimzi's user operator makes a password and what it may do."""
    alike = itertools.groupby(
        sorted(rules, key=lambda rule: (rule.resource, rule.name, rule.is_prefix)),
        key=lambda rule: (rule.resource, rule.name, rule.is_prefix),
    )
    acls = [
        {
            "resource": {"type": resource, "name": name, "patternType": "prefix" if is_prefix else "literal"},
            "operations": sorted(rule.operation for rule in some),
        }
        for (resource, name, is_prefix), some in alike
    ]
    user = {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaUser",
        "metadata": {"name": identity, "labels": {"strimzi.io/cluster": cluster}},
        "spec": {
            "authentication": {"type": "scram-sha-512"},
            "authorization": {"type": "simple", "acls": acls},
        },
    }
    text: str = yaml.safe_dump(user, sort_keys=False)
    return text


async def apply(settings: KafkaSettings, rules: Sequence[Rule]) -> Changes:
    """Let the identities of rules do what rules say, and nothing else; return what that changed.

    Raises:
        AclsError: Kafka refuses it.
        KafkaError: Kafka is away.
    """
    wanted = {_acl(rule): None for rule in rules}  # in their order
    admin = AIOKafkaAdminClient(**connection(settings))
    try:
        await admin.start()
        present: set[_Filter] = set()
        for identity in dict.fromkeys(rule.identity for rule in rules):
            present |= await _present(admin, identity)
        added = [acl for acl in wanted if acl not in present]
        if added:
            answer = await admin._send_to_controller(_Create(added))
            for code, message in answer.creation_responses:
                _check(code, message)
        removed = sorted(present - wanted.keys())
        if removed:
            answer = await admin._send_to_controller(_Delete(removed))
            for code, message, _ in answer.filter_responses:
                _check(code, message)
    finally:
        await admin.close()
    return Changes(added, removed)


def readable(acl: _Filter) -> str:
    """Return what one says, for people."""
    resource, name, pattern, principal, _, operation, _ = acl
    kinds = {number: word for word, number in _RESOURCES.items()}
    verbs = {number: word for word, number in _OPERATIONS.items()}
    return (
        f"{principal} {verbs.get(operation, f'operation {operation}')} {kinds.get(resource, f'resource {resource}')} "
        f"{name}{'*' if pattern == _PREFIXED else ''}"
    )


def _acl(rule: Rule) -> _Filter:
    pattern = _PREFIXED if rule.is_prefix else _LITERAL
    principal = f"User:{rule.identity}"
    resource, operation = _RESOURCES[rule.resource], _OPERATIONS[rule.operation]
    return (resource, rule.name, pattern, principal, _EVERY_HOST, operation, _ALLOW)


async def _present(admin: AIOKafkaAdminClient, identity: str) -> set[_Filter]:
    answer = await admin._send_to_controller(_Describe(f"User:{identity}"))
    _check(answer.error_code, answer.error_message)
    return {
        (resource, name, pattern, *acl)
        for resource, name, pattern, acls in answer.resources
        for acl in map(tuple, acls)
    }


def _check(code: int, message: str | None) -> None:
    if code:
        raise AclsError(f"{for_code(code).__name__}{f': {message}' if message else ''}")


class _Create(Request[CreateAclsRequest_v1]):  # type: ignore[misc] # published without types
    """Many at once; aiokafka's own takes one."""

    API_KEY = CreateAclsRequest_v1.API_KEY

    def __init__(self, acls: Sequence[_Filter]) -> None:
        self._acls = acls

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(list(self._acls))


class _Delete(Request[DeleteAclsRequest_v1]):  # type: ignore[misc] # published without types
    """Many at once; aiokafka's own takes one."""

    API_KEY = DeleteAclsRequest_v1.API_KEY

    def __init__(self, acls: Sequence[_Filter]) -> None:
        self._acls = acls

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(list(self._acls))


class _Describe(Request[DescribeAclsRequest_v1]):  # type: ignore[misc] # published without types
    """Everything of one principal. aiokafka's own chooses a later version, whose encoding it does not have."""

    API_KEY = DescribeAclsRequest_v1.API_KEY

    def __init__(self, principal: str) -> None:
        self._principal = principal

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(_ANY, None, _ANY, self._principal, None, _ANY, _ANY)
