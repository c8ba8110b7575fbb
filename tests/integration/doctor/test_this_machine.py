"""Faults of this machine: files, disks, certificates, ports, and `gyre doctor` itself on an embedded stack."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from embedded.stack import Stack
from gyre.cli import main
from gyre.doctor.installation import Installation, embedded_installation
from services.triage.accounts import changed, hash_password
from tests.disks import own_disk
from tests.integration.doctor.conftest import causes, remedy


def run(lab: Stack, *arguments: str) -> tuple[int, str]:
    """The exit code and the output of `gyre doctor` on the lab."""
    state = str(lab.settings.state_dir)
    result = CliRunner().invoke(main, ["doctor", "--state-dir", state, *arguments], catch_exceptions=False)
    return result.exit_code, result.stdout


@pytest.mark.usefixtures("installation")  # every topic is there
async def test_parts_that_are_stopped_are_told_once_and_not_that_nothing_answers_there(lab: Stack) -> None:
    code, said = await asyncio.to_thread(run, lab, "--format", "json")
    results = {each["check"]: each for each in json.loads(said)}
    assert code == 1
    assert results["parts"]["state"] == "error"
    assert [each["cause"] for each in results["parts"]["findings"]] == ["triton is stopped."]
    assert results["parts"]["findings"][0]["remedy"] == "Start what is stopped: gyre up."
    assert results["kafka"] == {"check": "kafka", "question": "Kafka answers", "state": "ok", "findings": []}
    assert {results[name]["skipped"] for name in ("triton", "audit", "router", "audit-reads", "signatures")} == {
        "parts is to be mended first"
    }


async def test_a_port_that_something_else_has_is_told_with_what_has_it(lab: Stack) -> None:
    port = lab.settings.port("GYRE_EMBEDDED_TRITON_GRPC_PORT")
    with socket.create_server(("127.0.0.1", port)):
        (cause,) = (await causes(embedded_installation(lab), "parts"))["parts"]
        assert cause.startswith(f"Port {port}, which triton wants, is taken by ")
        assert "GYRE_EMBEDDED_TRITON_GRPC_PORT=" in await remedy(embedded_installation(lab), "parts")


def test_a_stack_that_never_ran_is_told_in_words_and_nothing_is_written(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["doctor", "--state-dir", str(tmp_path / "never")], catch_exceptions=False)
    assert result.exit_code == 1
    assert f"Nothing of the stack in {tmp_path}/never runs." in " ".join(result.stdout.split())
    assert "→ Start it: gyre up." in result.stdout
    assert not (tmp_path / "never").exists()


async def test_a_password_of_clickhouse_that_was_changed_since_the_start_is_told(lab: Stack) -> None:
    file = lab.settings.run_dir / "secrets" / "clickhouse-audit"
    before = file.read_text()
    file.write_text("another")
    try:
        (cause,) = (await causes(embedded_installation(lab), "clickhouse"))["clickhouse"]
        assert "refuses the user audit" in cause
    finally:
        file.write_text(before)


async def test_secrets_and_accounts_that_others_can_read_are_named(installation: Installation, tmp_path: Path) -> None:
    secret, accounts = tmp_path / "secret", tmp_path / "accounts.yaml"
    secret.write_text("x")
    secret.chmod(0o644)
    with changed(accounts) as content:
        content["ann"] = {"role": "admin", "clearance": "internal", "tenants": "all", "password": hash_password("x")}
    here = replace(installation, secret_files=(secret,), accounts=accounts)
    assert await causes(here, "secrets", "accounts") == {
        "secrets": [f"Other accounts of this machine can read {secret} (mode 0644)."]
    }
    assert await remedy(here, "secrets") == (
        f"Close it, and change what it holds if somebody may have read it: chmod 600 {secret}."
    )
    secret.chmod(0o600)
    accounts.chmod(0o604)
    assert str(accounts) in (await causes(here, "secrets"))["secrets"][0]


async def test_accounts_that_are_missing_damaged_or_without_an_admin_are_told(
    installation: Installation, tmp_path: Path
) -> None:
    accounts = tmp_path / "accounts.yaml"
    here = replace(installation, accounts=accounts)
    assert (await causes(here, "accounts"))["accounts"] == [
        f"The accounts file {accounts} is missing, so nobody can sign in."
    ]
    with changed(accounts) as content:
        content["ann"] = {"role": "expert", "clearance": "internal", "tenants": "all", "password": hash_password("x")}
    assert (await causes(here, "accounts"))["accounts"] == [
        "No account of the console is an admin, so nobody can let others in."
    ]
    accounts.write_text("ann: {role: king}")
    assert "ann.role" in (await causes(here, "accounts"))["accounts"][0]


async def test_a_disk_that_is_full_is_told_with_the_folder_on_it(installation: Installation, tmp_path: Path) -> None:
    with own_disk(tmp_path, 1 << 20) as allowed:
        if not allowed:
            pytest.skip("this account may not mount a disk")
        here = replace(installation, folders={tmp_path / "state": "records"})
        assert await causes(here, "disks") == {}
        (tmp_path / "file").write_bytes(b"x" * 1_030_000)
        assert await causes(here, "disks") == {"disks": [f"The disk of {tmp_path}/state is full: 0.00 GiB are left."]}


def certificate(folder: Path, ends: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "router")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ends - timedelta(days=90))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for file, content in (("tls.crt", made), ("ca.crt", made), ("tls.key", private)):
        (folder / file).write_bytes(content)
    (folder / "tls.key").chmod(0o600)


async def test_certificates_that_are_missing_ended_end_soon_or_have_another_key_are_told(
    installation: Installation, tmp_path: Path
) -> None:
    here = replace(installation, tls_dir=tmp_path)

    async def told() -> list[str]:
        return (await causes(here, "certificates")).get("certificates", [])

    assert await told() == [f"GYRE_TLS_DIR is {tmp_path}, where tls.crt, tls.key, ca.crt is missing."]
    now = datetime.now(UTC)
    certificate(tmp_path, now + timedelta(days=60))
    assert await told() == []
    certificate(tmp_path, now + timedelta(days=5, hours=1))
    assert [cause.split(" on ")[0] for cause in await told()] == [
        f"The certificate {tmp_path}/{file} ends in 5 days," for file in ("tls.crt", "ca.crt")
    ]
    certificate(tmp_path, now - timedelta(days=1))
    assert "tls.crt ended on" in (await told())[0]
    other = tmp_path / "other"
    other.mkdir()
    certificate(other, now + timedelta(days=60))
    certificate(tmp_path, now + timedelta(days=60))
    (other / "tls.key").rename(tmp_path / "tls.key")
    assert await told() == [f"{tmp_path}/tls.key is not the key of tls.crt."]
    (tmp_path / "tls.crt").write_text("no certificate")
    assert await told() == [f"{tmp_path}/tls.crt cannot be read as PEM."]
