import configparser
import stat
from pathlib import Path

import pytest
from supervisor.datatypes import dict_of_key_value_pairs

from embedded.environment import clickhouse_password, service_environment
from embedded.errors import EmbeddedError, SettingsError
from embedded.kafka import server_properties
from embedded.parts import INFRASTRUCTURE, PARTS, all_parts, chosen
from embedded.settings import SERVICES, Settings
from embedded.supervision import configuration
from embedded.triton import Installation, command, shared_memory_prefix


@pytest.fixture
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    # A space, because a folder may have one.
    return Settings(tmp_path_factory.mktemp("my state"), {"GYRE_AUDIT_GRPC_PORT": 4711})


@pytest.fixture
def written(settings: Settings) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))  # as supervisor reads it
    parser.read_string(configuration(settings, all_parts(settings).values()))
    return parser


def test_every_part_is_a_program_that_is_started_on_demand_and_again_when_it_ends(
    written: configparser.RawConfigParser,
) -> None:
    for name in PARTS:
        program = written[f"program:{name}"]
        assert program["command"].endswith(f"-m {all_modules()[name]}")
        assert (program["autostart"], program["autorestart"], program["killasgroup"]) == ("false", "true", "true")
        assert program["stdout_logfile_maxbytes"] != "0"


def all_modules() -> dict[str, str]:
    return {**{name: f"embedded.{name}" for name in INFRASTRUCTURE}, **{name: f"services.{name}" for name in SERVICES}}


def test_supervisor_reads_the_environment_that_was_meant(
    settings: Settings, written: configparser.RawConfigParser
) -> None:
    read = dict_of_key_value_pairs(written["program:audit"]["environment"])
    of_triage = {"GYRE_TRIAGE_LEASE_SECRET", "GYRE_TRIAGE_SESSION_SECRET", "GYRE_TRIAGE_ACCOUNTS"}
    told = {name: value for name, value in service_environment(settings).items() if name not in of_triage}
    assert told.items() <= read.items()


def test_only_those_who_need_a_secret_get_it(settings: Settings, written: configparser.RawConfigParser) -> None:
    secret = clickhouse_password(settings, "audit")
    assert secret in written["program:audit"]["environment"]
    for name in PARTS:
        assert (secret in written[f"program:{name}"]["environment"]) == (name == "audit")
    lease = service_environment(settings)["GYRE_TRIAGE_LEASE_SECRET"]
    for name in PARTS:
        assert (lease in written[f"program:{name}"]["environment"]) == (name == "triage")
    assert all(secret not in written[section].get("command", "") for section in written.sections())


def test_a_value_that_supervisor_would_misread_is_refused(settings: Settings) -> None:
    (settings.run_dir / "secrets").mkdir(parents=True)
    (settings.run_dir / "secrets" / "triage-lease").write_text('a"b')
    with pytest.raises(EmbeddedError, match="GYRE_TRIAGE_LEASE_SECRET") as refusal:
        configuration(settings, all_parts(settings).values())
    assert 'a"b' not in str(refusal.value)


def test_services_are_told_where_everything_is(settings: Settings) -> None:
    environment = service_environment(settings)
    assert environment["GYRE_AUDIT_GRPC_PORT"] == "4711"
    assert environment["GYRE_AUDIT_TARGET"] == "127.0.0.1:4711"
    assert environment["GYRE_KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:19092"
    assert environment["GYRE_CLICKHOUSE_URL"] == "http://127.0.0.1:18123"
    assert environment["GYRE_TLS_DIR"] == ""  # whatever the operator's own says
    assert environment["GYRE_TRITON_REPOSITORY"] == str(settings.state_dir / "triton" / "models")


def test_secrets_are_made_once_and_for_this_account_alone(settings: Settings) -> None:
    first = service_environment(settings)["GYRE_TRIAGE_LEASE_SECRET"]
    assert len(first) >= 32
    assert service_environment(settings)["GYRE_TRIAGE_LEASE_SECRET"] == first
    for file in (settings.run_dir / "secrets").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_parts_start_after_those_that_they_need(settings: Settings) -> None:
    seen: set[str] = set()
    for name, part in all_parts(settings).items():
        assert set(part.after) <= seen, "no order would do"
        seen.add(name)
    assert {*INFRASTRUCTURE, "governance", "context"} <= set(all_parts(settings)["router"].after)


def test_chosen_parts_come_in_starting_order_and_unknown_ones_are_named() -> None:
    assert chosen(["triton", "kafka"]) == ("kafka", "triton")
    with pytest.raises(SettingsError, match=r"There is no part 'kafak'; the parts are kafka, "):
        chosen(["kafak"])


def test_kafka_listens_on_its_ports_and_makes_no_topic_by_itself(settings: Settings) -> None:
    properties = server_properties(settings)
    assert properties["advertised.listeners"] == "PLAINTEXT://127.0.0.1:19092"
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:19093"
    assert properties["auto.create.topics.enable"] == "false"


def test_triton_is_for_this_machine_alone_and_its_shared_memory_for_this_stack(settings: Settings) -> None:
    line = command(settings, Installation(Path("server"), Path("backend"), Path("stub"), (), Path("bin")))
    for protocol in ("http", "grpc", "metrics"):
        assert f"--{protocol}-address=127.0.0.1" in line
    assert "--model-control-mode=explicit" in line
    other = Settings(settings.state_dir / "other")
    assert shared_memory_prefix(settings) != shared_memory_prefix(other)
