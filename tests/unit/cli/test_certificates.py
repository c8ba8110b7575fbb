"""`gyre certificates`: what it makes, keeps, renews and refuses."""

import ssl
import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from gyre.certificates import IDENTITIES, authority, issue, utc_now
from gyre.cli import main
from services.runtime import edges

NOW = utc_now()


def run(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["certificates", str(folder), *options])


def certificate(folder: Path, identity: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / identity / "tls.crt").read_bytes())


def dns_names(folder: Path, identity: str) -> list[str]:
    san = certificate(folder, identity).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return san.get_values_for_type(x509.DNSName)


def test_everyone_in_the_table_gets_a_folder_that_a_service_can_use(tmp_path: Path) -> None:
    assert run(tmp_path).exit_code == 0
    assert {edge.caller for edge in edges.EDGES} | {edge.callee for edge in edges.EDGES} <= set(IDENTITIES)
    for identity in IDENTITIES:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / identity / "tls.crt", tmp_path / identity / "tls.key")
        context.load_verify_locations(tmp_path / identity / "ca.crt")
        assert dns_names(tmp_path, identity)[0] == identity


def test_nobody_else_may_read_a_key(tmp_path: Path) -> None:
    run(tmp_path)
    keys = list(tmp_path.rglob("*.key"))
    assert len(keys) == len(IDENTITIES) + 1
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_a_certificate_is_good_for_as_long_as_was_asked(tmp_path: Path) -> None:
    before = utc_now()
    run(tmp_path, "--days", "7")
    made = certificate(tmp_path, "router").not_valid_after_utc - timedelta(days=7)
    assert before <= made <= utc_now()


def test_domains_and_names_are_in_the_certificates_and_stay_there(tmp_path: Path) -> None:
    run(tmp_path, "--domain", "gyre.svc", "--name", "router=gyre.example.org", "--name", "router=10.0.0.7")
    assert dns_names(tmp_path, "router") == ["router", "router.gyre.svc", "gyre.example.org", "localhost"]
    assert dns_names(tmp_path, "audit") == ["audit", "audit.gyre.svc", "localhost"]
    serial = certificate(tmp_path, "router").serial_number
    run(tmp_path)
    assert certificate(tmp_path, "router").serial_number == serial
    run(tmp_path, "--domain", "other.svc")
    assert "10.0.0.7" in str(certificate(tmp_path, "router").extensions)
    assert set(dns_names(tmp_path, "router")) > {"gyre.example.org", "router.gyre.svc", "router.other.svc"}


@pytest.mark.parametrize(
    ("age", "what"), [(timedelta(days=50), "kept"), (timedelta(days=61), "renewed"), (timedelta(days=100), "renewed")]
)
def test_what_has_less_than_a_third_of_its_time_left_is_renewed_by_the_same_ca(
    tmp_path: Path, age: timedelta, what: str
) -> None:
    ca = authority(tmp_path, NOW - age)
    issue(tmp_path, ca, "router", (), 90, NOW - age)
    before = (tmp_path / "ca.crt").read_bytes()
    again = authority(tmp_path, NOW)
    assert issue(tmp_path, again, "router", (), 90, NOW).what == what
    assert (tmp_path / "ca.crt").read_bytes() == before
    certificate(tmp_path, "router").verify_directly_issued_by(again.certificate)


def test_no_certificate_outlives_its_ca(tmp_path: Path) -> None:
    ca = authority(tmp_path, NOW - timedelta(days=3640))
    assert issue(tmp_path, ca, "router", (), 90, NOW).expires == ca.certificate.not_valid_after_utc


def test_what_another_ca_signed_or_has_lost_its_key_is_made_anew(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "audit" / "tls.key").unlink()
    other = authority(tmp_path / "other", NOW)
    issue(tmp_path, other, "router", ("new.example.org",), 90, NOW)
    assert run(tmp_path).exit_code == 0
    ca = authority(tmp_path, NOW).certificate
    for identity in ("router", "audit"):
        certificate(tmp_path, identity).verify_directly_issued_by(ca)
    assert (tmp_path / "router" / "ca.crt").read_bytes() == (tmp_path / "ca.crt").read_bytes()


def test_it_says_what_it_made_and_what_to_do_next(tmp_path: Path) -> None:
    said = " ".join(run(tmp_path).output.split())
    for identity in IDENTITIES:
        assert f"{identity} made" in said
    assert f"GYRE_TLS_DIR={tmp_path / 'router'}" in said
    assert f"GYRE_TLS_DIR={tmp_path / 'operator'}" in said
    assert f"Whoever has {tmp_path / 'ca.key'} can be anybody" in said
    renew_by = datetime.fromisoformat(said.partition("Run it again by ")[2][:10]).date()
    assert timedelta(days=59) <= renew_by - NOW.date() <= timedelta(days=61)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--name", "rooter=x"], "'rooter=x': wanted IDENTITY=NAME"),
        (["--name", "router"], "'router': wanted IDENTITY=NAME"),
        (["--name", "router=audit.example.org"], "who shows this name is taken for audit, and not for router"),
        (["--days", "0"], "0 is not in the range"),
    ],
)
def test_what_it_cannot_make_it_explains(tmp_path: Path, options: list[str], complaint: str) -> None:
    result = run(tmp_path / "new", *options)
    assert result.exit_code != 0
    assert complaint in result.output
    assert not (tmp_path / "new").exists()


def test_half_a_ca_is_neither_used_nor_replaced(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "ca.key").unlink()
    result = run(tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path / 'ca.key'} is missing" in result.output
    assert not (tmp_path / "ca.key").exists()
