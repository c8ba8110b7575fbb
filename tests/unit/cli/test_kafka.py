"""What is printed of who may do what at Kafka."""

import shlex

import yaml
from click.testing import CliRunner

from gyre.cli import main
from schemas.access import ACCESS, Rule, rules

_KINDS = {"--topic": "topic", "--group": "group", "--transactional-id": "transactionalId"}


def printed(*options: str) -> str:
    result = CliRunner().invoke(main, ["kafka", "acls", *options])
    assert result.exit_code == 0
    return result.output


def test_the_lines_for_kafkas_tool_allow_each_rule_once() -> None:
    found = []
    for line in printed().splitlines():
        words = shlex.split(line)
        assert words[:5] == ["kafka-acls.sh", "--bootstrap-server", "$KAFKA", "--command-config", "$KAFKA_ADMIN"]
        rest = words[words.index("--add") + 1 :]
        options = list(zip(rest[::2], rest[1::2], strict=True))
        told = dict(options)
        is_prefix = told.get("--resource-pattern-type") == "prefixed"
        identity = told["--allow-principal"].removeprefix("User:")
        found += [
            Rule(identity, _KINDS[option], name, is_prefix, told["--operation"])  # type: ignore[arg-type] # as printed
            for option, name in options
            if option in _KINDS
        ]
    assert sorted(found) == sorted(rule for identity in ACCESS for rule in rules(identity))


def test_strimzi_is_told_a_user_for_each_identity_with_the_same_rules() -> None:
    users = list(yaml.safe_load_all(printed("--format", "strimzi", "--cluster", "ours")))
    assert [user["metadata"]["name"] for user in users] == list(ACCESS)
    for user in users:
        identity = user["metadata"]["name"]
        assert user["metadata"]["labels"] == {"strimzi.io/cluster": "ours"}
        assert user["spec"]["authentication"] == {"type": "scram-sha-512"}
        found = [
            Rule(
                identity,
                acl["resource"]["type"],
                acl["resource"]["name"],
                acl["resource"]["patternType"] == "prefix",
                operation,
            )
            for acl in user["spec"]["authorization"]["acls"]
            for operation in acl["operations"]
        ]
        assert sorted(found) == sorted(rules(identity))


def test_what_is_printed_stays_the_same() -> None:
    assert printed("--format", "strimzi") == printed("--format", "strimzi")
    one = printed("--format", "strimzi", "--identity", "governance")
    assert one in printed("--format", "strimzi")
