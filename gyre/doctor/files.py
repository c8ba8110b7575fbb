"""Files: secrets, accounts, certificates, and the models that everything runs on."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from gyre.doctor.checks import Check, Finding, error, warning
from gyre.doctor.installation import TLS_FILES, Installation
from gyre.doctor.weights import damage

# cert-manager renews a third of the time before the end, so one that is this old is not being renewed.
EXPIRES = timedelta(days=14)
_READ_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


async def _probe_secrets(at: Installation) -> dict[Path, int]:
    files = [*at.secret_files, *([at.accounts] if at.accounts is not None else [])]
    if at.tls_dir is not None:
        files.append(at.tls_dir / "tls.key")
    return {path: stat.S_IMODE(path.stat().st_mode) for path in dict.fromkeys(files) if path.is_file()}


def judge_secrets(at: Installation, modes: Mapping[Path, int]) -> Iterator[Finding]:
    """Say which secrets others can read."""
    # Kubernetes gives mounted secrets to the group that the process is in.
    forbidden = _READ_BY_OTHERS if at.is_embedded else stat.S_IRWXO
    for path, mode in modes.items():
        if mode & forbidden:
            yield error(
                f"Other accounts of this machine can read {path} (mode {mode:04o}).",
                f"Close it, and change what it holds if somebody may have read it: chmod 600 {path}.",
            )


@dataclass(frozen=True)
class AccountFacts:
    """The accounts file: what is wrong with it (empty: nothing), and each account's role."""

    path: Path
    complaint: str = ""
    missing: bool = False
    roles: tuple[str, ...] = ()


async def _probe_accounts(at: Installation) -> AccountFacts | None:
    if at.accounts is None or (at.stack is not None and not at.stack.settings.run_dir.exists()):
        return None
    from services.triage.accounts import InvalidAccountsError, load_accounts

    if not at.accounts.exists():
        return AccountFacts(at.accounts, missing=True)
    try:
        accounts = load_accounts(at.accounts)
    except (InvalidAccountsError, OSError) as failure:
        return AccountFacts(at.accounts, complaint=str(failure))
    return AccountFacts(at.accounts, roles=tuple(str(each.role) for each in accounts.root.values()))


def judge_accounts(at: Installation, found: AccountFacts) -> Iterator[Finding]:
    """Say whether somebody can let others into the console."""
    named = "" if at.is_embedded else f" (GYRE_TRIAGE_ACCOUNTS={found.path})"
    add = f"gyre experts add NAME --role admin --tenant all{named}"
    if found.missing:
        yield error(f"The accounts file {found.path} is missing, so nobody can sign in.", f"Make it: {add}.")
    elif found.complaint:
        yield error(f"The accounts file cannot be used: {found.complaint}.", "Mend it, or restore it from a backup.")
    elif "admin" not in found.roles:
        yield error("No account of the console is an admin, so nobody can let others in.", f"Make one: {add}.")


@dataclass(frozen=True)
class Certificates:
    """What a folder of certificates holds.

    Attributes:
        missing: Files that are not there.
        complaint: What is wrong with them; empty: nothing.
        ends: When each certificate ends, by its file.
        fits: Whether the key is the certificate's.
    """

    missing: tuple[str, ...] = ()
    complaint: str = ""
    ends: Mapping[str, datetime] | None = None
    fits: bool = True


async def _probe_certificates(at: Installation) -> Certificates | None:
    if at.tls_dir is None:
        return None
    missing = tuple(name for name in TLS_FILES if not (at.tls_dir / name).is_file())
    return Certificates(missing=missing) if missing else _certificates(at.tls_dir)


def _certificates(folder: Path) -> Certificates:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    ends: dict[str, datetime] = {}
    file = ""
    try:
        for file in ("tls.crt", "ca.crt"):
            chain = x509.load_pem_x509_certificates((folder / file).read_bytes())
            ends[file] = min(each.not_valid_after_utc for each in chain)
        own = x509.load_pem_x509_certificates((folder / "tls.crt").read_bytes())[0]
        file = "tls.key"
        key = load_pem_private_key((folder / file).read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, OSError):
        # Not the error itself, which may quote what it could not read.
        return Certificates(complaint=f"{folder / file} cannot be read as PEM")
    return Certificates(ends=ends, fits=key.public_key() == own.public_key())


def judge_certificates(at: Installation, found: Certificates) -> Iterator[Finding]:
    """Say which certificates are of no use, or soon will be."""
    renew = f"Have it issued again into {at.tls_dir}; with cert-manager: cmctl renew NAME, and see why it was not"
    if found.missing:
        yield error(f"GYRE_TLS_DIR is {at.tls_dir}, where {', '.join(found.missing)} is missing.", f"{renew}.")
    if found.complaint:
        yield error(f"{found.complaint}.", f"{renew}.")
    if not found.fits:
        yield error(f"{at.tls_dir}/tls.key is not the key of tls.crt.", f"{renew}.")
    now = at.clock.now()
    for file, ends in (found.ends or {}).items():
        if ends <= now:
            yield error(f"The certificate {at.tls_dir}/{file} ended on {ends:%Y-%m-%d at %H:%M} UTC.", f"{renew}.")
        elif ends - now < EXPIRES:
            days = (ends - now).days
            yield warning(f"The certificate {at.tls_dir}/{file} ends in {days} days, on {ends:%Y-%m-%d}.", f"{renew}.")


@dataclass(frozen=True)
class ModelFile:
    """A file of the models' folder that is missing or damaged."""

    path: Path
    complaint: str


NEEDED = (
    "base/config.json",
    "base/model.safetensors",
    "base/tokenizer.json",
    "base.Q8_0.gguf",
    "token-embeddings/config.json",
    "token-embeddings/model.safetensors",
    "token-embeddings/tokenizer.json",
)


async def _probe_models(at: Installation) -> list[ModelFile] | None:
    if at.models_dir is None:
        return None
    paths = [at.models_dir / name for name in NEEDED]
    return [ModelFile(path, complaint) for path in paths if (complaint := damage(path))]


def judge_models(at: Installation, found: Sequence[ModelFile]) -> Iterator[Finding]:
    """Say whether the models' folder is whole."""
    if not found:
        return
    folder = at.models_dir
    assert folder is not None
    make = f"python -m embedded.models {folder}"
    if len(found) == len(NEEDED) and at.is_embedded:
        yield warning(f"There are no models in {folder} yet.", "gyre up makes them, in some minutes.")
        return
    if len(found) == len(NEEDED):
        yield error(f"There are no models in {folder}.", f"Make them: {make}.")
        return
    # A model is made when nothing is there under its name.
    names = dict.fromkeys(each.path.relative_to(folder).parts[0] for each in found)
    first = found[0]
    more = f", and {len(found) - 1} more like it" if len(found) > 1 else ""
    yield error(
        f"The models' folder is damaged: of {first.path}, {first.complaint}{more}.",
        f"Have it made again: rm -r {' '.join(str(folder / name) for name in names)} && {make}.",
    )


CHECKS = [
    Check("secrets", "nobody else can read secrets", _probe_secrets, judge_secrets),
    Check("accounts", "the console's accounts can be used", _probe_accounts, judge_accounts),
    Check("certificates", "certificates can be used for two weeks", _probe_certificates, judge_certificates),
    Check("models", "the models are whole", _probe_models, judge_models),
]
