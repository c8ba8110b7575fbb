"""Who may do what with a topic agrees with what services say about themselves and do in their code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.access import ACCESS, EVERY_TOPIC, OPERATOR, rules
from schemas.topics import Topic

ROOT = Path(__file__).parents[3]
SERVICES = {identity: access for identity, access in ACCESS.items() if identity != OPERATOR}
_NAMED = re.compile(r"\bTopic\.([A-Z_]+)\b")


def sources(*folders: str) -> Iterator[tuple[Path, str]]:
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            yield path, path.read_text()


def test_every_service_has_an_identity() -> None:
    services = {path.parent.name for path in (ROOT / "services").glob("*/__main__.py")}
    assert services == SERVICES.keys()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_writes_topics_that_bear_its_name(service: str) -> None:
    assert [topic for topic in ACCESS[service].writes if topic.split(".")[0] != service] == []


@pytest.mark.parametrize("topic", Topic)
def test_every_topic_is_written_by_one_service_or_the_operator_alone(topic: Topic) -> None:
    writers = [service for service, access in SERVICES.items() if topic in access.writes]
    assert len(writers) == (0 if topic is Topic.BUNDLES else 1)
    assert topic in ACCESS[OPERATOR].writes


@pytest.mark.parametrize("service", [service for service in SERVICES if service != "audit"])
def test_a_service_names_in_its_code_the_topics_of_its_work_and_no_other(service: str) -> None:
    """Audit, which reads every topic, names few."""
    named = {Topic[name] for _, text in sources(f"services/{service}") for name in _NAMED.findall(text)}
    assert named == {*ACCESS[service].reads, *ACCESS[service].writes}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_reads_with_a_group_says_so(service: str) -> None:
    text = "\n".join(text for _, text in sources(f"services/{service}"))
    named = set(re.findall(r"\"(gyre-[a-z-]+)\"", text)) | ({"gyre-serving"} if "Transformer(" in text else set())
    assert named == {*ACCESS[service].groups}


def test_only_the_operator_reads_dead_letters_and_nobody_but_who_reads_a_topic_writes_them() -> None:
    for access in SERVICES.values():
        assert not access.reads_letters
        assert {*access.writes_letters} <= {*access.reads}


def test_nobody_may_do_anything_but_make_read_and_write() -> None:
    every = [rule for identity in ACCESS for rule in rules(identity)]
    assert {rule.operation for rule in every} == {"Create", "Read", "Write"}
    assert len(every) == len(set(every))
    assert {rule.name for rule in every if rule.is_prefix} == {
        "gyre-triage-",
        "gyre-serving-",
        "gyre-audit-drift-",
        "gyre-dlq-",
    }


def test_every_client_of_kafka_is_told_who_it_is_by_the_one_function() -> None:
    clients = {"AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaAdminClient"}
    found = 0
    for path, text in sources("services", "gyre"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in clients:
                spread = [ast.unparse(each.value).split("(")[0] for each in node.keywords if each.arg is None]
                # Faust's own way from what `connection` says to what aiokafka takes.
                assert spread in (["connection"], ["credentials_to_aiokafka_auth"]), f"{path}:{node.lineno}"
                found += 1
    assert found > 10


def _told(topics: tuple[Topic, ...]) -> str:
    return "every topic" if topics == EVERY_TOPIC else ", ".join(topic.removesuffix(".v1") for topic in topics)


@pytest.mark.parametrize("identity", ACCESS)
def test_the_document_says_the_same(identity: str) -> None:
    access = ACCESS[identity]
    cells = [
        f"`{identity}`",
        _told(access.reads),
        _told(access.writes),
        _told(access.writes_letters),
        ", ".join(access.groups),
        f"{access.transactions}*" if access.transactions else "",
    ]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "docs/identities.md").read_text().splitlines()
        if line.startswith(f"| `{identity}` |") and line.count("|") > 4
    ]
    assert rows == [cells]
