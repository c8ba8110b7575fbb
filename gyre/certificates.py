"""A development CA: certificates for everyone who asks or is asked, as the folders that `GYRE_TLS_DIR` names."""

from __future__ import annotations

import ipaddress
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.runtime.edges import OPERATOR, OTHERS, PROMETHEUS, SERVICES

IDENTITIES = (*SERVICES, OPERATOR, PROMETHEUS, *OTHERS)
CA_CERTIFICATE, CA_KEY = "ca.crt", "ca.key"
CERTIFICATE, KEY = "tls.crt", "tls.key"
CA_DAYS = 3650
# Of clocks that do not agree.
_SKEW = timedelta(minutes=5)
# So that a stack on one machine, and a forwarded port, can be asked too.
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Issued:
    """A certificate that lies in a folder now.

    Attributes:
        identity: Whose.
        what: `made`, `renewed` or `kept`.
        expires: When it ends.
        names: For which names.
    """

    identity: str
    what: str
    expires: datetime
    names: tuple[str, ...]


@dataclass(frozen=True)
class Authority:
    """A CA that signs.

    Attributes:
        certificate: Its certificate.
        key: Its private key.
        is_new: Whether it was made just now.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    is_new: bool


def authority(folder: Path, now: datetime) -> Authority:
    """Return the CA in a folder, made where there is none.

    Raises:
        ValueError: What lies there is none that can sign.
        OSError: The folder cannot be read or written.
    """
    certificate_file, key_file = folder / CA_CERTIFICATE, folder / CA_KEY
    if not certificate_file.exists() and not key_file.exists():
        return _new_authority(folder, now)
    for file in (certificate_file, key_file):
        if not file.exists():
            raise ValueError(f"{file} is missing; put it back, or remove the other half too for a new CA")
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    key = load_pem_private_key(key_file.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError(f"{key_file} is not the key of {certificate_file}")
    if certificate.not_valid_after_utc <= now:
        raise ValueError(
            f"the CA ended on {certificate.not_valid_after_utc:%Y-%m-%d}; use another folder for a new one"
        )
    return Authority(certificate, key, is_new=False)


def issue(folder: Path, ca: Authority, identity: str, names: Sequence[str], days: int, now: datetime) -> Issued:
    """See to it that an identity's folder holds a certificate for some names that is not near its end.

    What names there were before stay.

    Args:
        folder: In which the identity has its folder.
        ca: Who signs.
        identity: Whose certificate.
        names: DNS names and IP addresses.
        days: How long a new one is good for, unless its CA ends before.
        now: The time.

    Raises:
        OSError: The folder cannot be read or written.
    """
    own = folder / identity
    held = _held(own)
    before = () if held is None else _names(held)
    wanted = tuple(dict.fromkeys((identity, *before, *names, *THIS_MACHINE)))
    if held is None or not (set(wanted) == set(before) and _is_good(held, ca, now)):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _signed(ca, key, wanted, now, min(now + timedelta(days=days), ca.certificate.not_valid_after_utc))
        own.mkdir(parents=True, exist_ok=True)
        # The key first: who reads between the two finds that they are no pair, and keeps what was before.
        _write(own / KEY, _pem(key), secret=True)
        _write(own / CERTIFICATE, certificate.public_bytes(Encoding.PEM))
        what = "made" if held is None else "renewed"
    else:
        certificate, what = held, "kept"
    _write(own / CA_CERTIFICATE, ca.certificate.public_bytes(Encoding.PEM))
    return Issued(identity, what, certificate.not_valid_after_utc, wanted)


def names_of(identity: str, domains: Iterable[str], more: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the names of an identity beside itself.

    Args:
        identity: Whose.
        domains: In which it is a host, such as `gyre.svc`.
        more: Further names by identity.

    Raises:
        ValueError: A name would make it somebody else, who is known by a name's first label.
    """
    for name in more.get(identity, ()):
        other = name.partition(".")[0]
        if other in IDENTITIES and other != identity:
            raise ValueError(f"{name}: who shows this name is taken for {other}, and not for {identity}")
    return (*(f"{identity}.{domain}" for domain in domains), *more.get(identity, ()))


def _new_authority(folder: Path, now: datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Gyre development CA of {now:%Y-%m-%d %H:%M:%S}")])
    certificate = (
        _builder(name, name, key, now, now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / CA_KEY, _pem(key), secret=True)
    _write(folder / CA_CERTIFICATE, certificate.public_bytes(Encoding.PEM))
    return Authority(certificate, key, is_new=True)


def _signed(
    ca: Authority, key: ec.EllipticCurvePrivateKey, names: Sequence[str], now: datetime, expires: datetime
) -> x509.Certificate:
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        _builder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]), ca.certificate.subject, key, now, expires
        )
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
        .sign(ca.key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, expires: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(expires)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _held(own: Path) -> x509.Certificate | None:
    """Return the certificate in a folder, if its key is there and there is one."""
    try:
        certificate = x509.load_pem_x509_certificate((own / CERTIFICATE).read_bytes())
        key = load_pem_private_key((own / KEY).read_bytes(), None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return certificate if key.public_key() == certificate.public_key() else None


def _names(held: x509.Certificate) -> tuple[str, ...]:
    try:
        names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(each.value) for each in names)


def _is_good(held: x509.Certificate, ca: Authority, now: datetime) -> bool:
    """Say whether a certificate is this CA's and has a third of its time left."""
    try:
        held.verify_directly_issued_by(ca.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return held.not_valid_after_utc - now > (held.not_valid_after_utc - held.not_valid_before_utc) / 3


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(file: Path, content: bytes, *, secret: bool = False) -> None:
    """Put a file in the place of another in one step."""
    descriptor, scratch = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")  # which makes it 0600
    with os.fdopen(descriptor, "wb") as out:
        if not secret:
            os.fchmod(descriptor, 0o644)
        out.write(content)
    os.replace(scratch, file)


def utc_now() -> datetime:
    """Return the time, in whole seconds as certificates have it."""
    return datetime.now(UTC).replace(microsecond=0)
