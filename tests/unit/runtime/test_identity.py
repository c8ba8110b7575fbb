"""What is set is read from variables and files, and what is set by half stops a start in one sentence."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from ssl import CERT_REQUIRED

import pytest

from services.runtime.errors import InvalidSettings
from services.runtime.kafka import connection
from services.runtime.settings import ClickHouseSettings, KafkaSettings, UpstreamSettings
from services.triage.settings import Settings as TriageSettings
from tests.certificates import Folders

SASL = {
    "GYRE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "GYRE_KAFKA_USER": "router",
    "GYRE_KAFKA_PASSWORD": "so secret",
}


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*SASL, "GYRE_KAFKA_CA_FILE", "GYRE_TLS_DIR", "GYRE_SECRETS_DIR", "GYRE_CLICKHOUSE_URL"):
        monkeypatch.delenv(variable, raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)


def test_by_default_kafka_is_told_nothing_of_who_asks() -> None:
    assert connection(KafkaSettings()) == {
        "bootstrap_servers": "127.0.0.1:19092",
        "security_protocol": "PLAINTEXT",
    }


def test_an_identity_signs_in_over_tls_and_checks_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, SASL)
    told = connection(KafkaSettings())
    context = told.pop("ssl_context")
    assert context.verify_mode == CERT_REQUIRED
    assert context.check_hostname
    assert told == {
        "bootstrap_servers": "127.0.0.1:19092",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "router",
        "sasl_plain_password": "so secret",
    }


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"GYRE_KAFKA_USER": ""}, "GYRE_KAFKA_USER: wanted with GYRE_KAFKA_SECURITY_PROTOCOL=SASL_SSL"),
        ({"GYRE_KAFKA_PASSWORD": ""}, "GYRE_KAFKA_PASSWORD: wanted with GYRE_KAFKA_SECURITY_PROTOCOL=SASL_SSL"),
        (
            {"GYRE_KAFKA_SECURITY_PROTOCOL": ""},
            "GYRE_KAFKA_SECURITY_PROTOCOL: PLAINTEXT shows no GYRE_KAFKA_USER; wanted SASL_SSL, or SASL_PLAINTEXT",
        ),
        (
            {"GYRE_KAFKA_SECURITY_PROTOCOL": "TLS"},
            "GYRE_KAFKA_SECURITY_PROTOCOL: Input should be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'",
        ),
        (
            {"GYRE_KAFKA_CA_FILE": "/nowhere/ca.crt"},
            "GYRE_KAFKA_CA_FILE: /nowhere/ca.crt holds no certificates that can be read "
            "([Errno 2] No such file or directory)",
        ),
        (
            {"GYRE_TLS_DIR": "/nowhere"},
            "GYRE_KAFKA_CA_FILE: /nowhere/ca.crt holds no certificates that can be read "
            "([Errno 2] No such file or directory)",
        ),
        ({"GYRE_KAFKA_PARTITIONS": "many"}, "GYRE_KAFKA_PARTITIONS: Input should be a valid integer"),
        ({"GYRE_SECRETS_DIR": "/nowhere"}, "GYRE_SECRETS_DIR: there is no folder /nowhere"),
    ],
)
def test_what_is_set_by_half_is_one_sentence_that_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, changed: Mapping[str, str], sentence: str
) -> None:
    set_all(monkeypatch, {**SASL, **changed})
    with pytest.raises(InvalidSettings) as error:
        KafkaSettings()
    assert str(error.value).startswith(sentence)
    assert "so secret" not in str(error.value)


def test_a_file_without_certificates_is_none_to_believe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    set_all(monkeypatch, {"GYRE_CLICKHOUSE_URL": "https://clickhouse:8443", "GYRE_TLS_DIR": str(tmp_path)})
    with pytest.raises(InvalidSettings, match=r"GYRE_CLICKHOUSE_CA_FILE: .*ca.crt holds no certificates"):
        ClickHouseSettings()


def test_whom_to_believe_is_who_gives_our_own_certificates_unless_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = Folders(tmp_path).of("router")
    ca_file = folder / "ca.crt"
    set_all(monkeypatch, {**SASL, "GYRE_TLS_DIR": str(folder)})
    assert KafkaSettings().ca == ca_file
    monkeypatch.setenv("GYRE_TLS_DIR", "none")
    assert KafkaSettings().ca is None
    monkeypatch.setenv("GYRE_KAFKA_CA_FILE", str(ca_file))
    assert len(KafkaSettings().ssl_context().get_ca_certs()) == 1


def test_an_address_of_clickhouse_has_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GYRE_CLICKHOUSE_URL", "clickhouse:8123")
    with pytest.raises(InvalidSettings, match=r"^GYRE_CLICKHOUSE_URL: "):
        ClickHouseSettings()


def test_secrets_are_read_from_files_named_like_their_variables_in_any_case(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, secret in (
        ("GYRE_CLICKHOUSE_PASSWORD", "a"),
        ("gyre_triage_lease_secret", "b\n"),
        ("GYRE_UPSTREAM_KEYS", '{"cloud": "c"}'),
    ):
        (tmp_path / name).write_text(secret)
    monkeypatch.setenv("GYRE_SECRETS_DIR", str(tmp_path))
    assert ClickHouseSettings().password.get_secret_value() == "a"
    assert TriageSettings().lease_secret.get_secret_value() == "b"
    assert UpstreamSettings().upstream_keys["cloud"].get_secret_value() == "c"
    monkeypatch.setenv("GYRE_CLICKHOUSE_PASSWORD", "of the variable")
    assert ClickHouseSettings().password.get_secret_value() == "of the variable"


def test_what_kubernetes_mounts_is_such_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "GYRE_CLICKHOUSE_PASSWORD").write_text("mounted")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "GYRE_CLICKHOUSE_PASSWORD").symlink_to("..data/GYRE_CLICKHOUSE_PASSWORD")
    monkeypatch.setenv("GYRE_SECRETS_DIR", str(tmp_path))
    assert ClickHouseSettings().password.get_secret_value() == "mounted"


def test_a_service_that_is_set_by_half_does_not_start_and_says_why() -> None:
    environment = {"PATH": "", "GYRE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}
    started = subprocess.run(
        [sys.executable, "-m", "services.governance"], env=environment, capture_output=True, text=True, check=False
    )
    assert started.returncode == 1
    said = json.loads(started.stderr)
    assert said["event"] == "cannot start"
    assert said["error"] == "GYRE_KAFKA_USER: wanted with GYRE_KAFKA_SECURITY_PROTOCOL=SASL_SSL"
