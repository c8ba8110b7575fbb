"""The accounts of those who judge answers: one YAML file, kept like a secret, which `gyre experts` writes.

ann:
  role: lead                  # expert, lead or admin
  clearance: confidential     # the highest sensitivity that ann may see
  tenants: [customer-care]    # or: all
  password: $argon2id$...     # or oidc: the subject or the e-mail by which the identity provider knows ann
  token_sha256: 5e88...       # if ann has a token for gRPC
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import argon2
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    ValidationError,
    model_validator,
)

from schemas.bundle import Name
from schemas.events import Sensitivity
from services.triage.domain.access import Person, Role

ALL = "all"
_HASHER = argon2.PasswordHasher()


class InvalidAccountsError(ValueError):
    """Accounts that cannot be used; the message names the file, the account and the field, and shows no secret."""


def _tenants(value: object) -> object:
    if value == ALL:
        return None
    if not isinstance(value, list) or not value:
        raise ValueError(f"wanted a list of tenants, or {ALL}")
    return value


def _hashed(value: str) -> str:
    try:
        kind = argon2.extract_parameters(value).type
    except argon2.exceptions.InvalidHashError:
        kind = None
    if kind is not argon2.Type.ID:
        raise ValueError("wanted an argon2id hash, as `gyre experts` writes it")
    return value


AccountName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,127}$")]


class Account(BaseModel):
    """One account."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    clearance: Sensitivity
    tenants: Annotated[
        frozenset[Name] | None,
        BeforeValidator(_tenants),
        PlainSerializer(lambda tenants: ALL if tenants is None else sorted(tenants)),
    ]
    password: Annotated[str, BeforeValidator(_hashed)] | None = None
    oidc: str | None = Field(default=None, min_length=1, max_length=255)
    token_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _can_sign_in_in_one_way(self) -> Self:
        if self.password and self.oidc:
            raise ValueError("password: wanted none beside oidc")
        if not (self.password or self.oidc or self.token_sha256):
            raise ValueError("password: wanted, or oidc, or token_sha256")
        return self

    @cached_property
    def fingerprint(self) -> str:
        """What a session was begun with: another password, identity or role ends it."""
        return hashlib.sha256(json.dumps([self.role, self.password, self.oidc]).encode()).hexdigest()[:32]


class Accounts(RootModel[dict[AccountName, Account]]):
    """Every account, by name."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="after")
    def _are_told_apart(self) -> Self:
        for field in ("oidc", "token_sha256"):
            owners: dict[str, str] = {}
            for name, account in self.root.items():
                value = getattr(account, field)
                if value and owners.setdefault(value.casefold(), name) != name:
                    raise ValueError(f"{name}.{field}: is {owners[value.casefold()]}'s already")
        return self

    def person(self, name: str) -> Person | None:
        """Return who an account is."""
        account = self.root.get(name)
        return Person(name, account.role, account.clearance, account.tenants) if account is not None else None

    def of_token(self, token: str) -> str | None:
        """Return the account whose gRPC token this is."""
        return self._by_token.get(hashlib.sha256(token.encode(errors="replace")).hexdigest())

    def of_identity(self, subject: str, email: str) -> str | None:
        """Return the account of somebody whom the identity provider vouches for.

        Args:
            subject: Its `sub`.
            email: Verified; empty: none.
        """
        identities = {account.oidc: name for name, account in self.root.items() if account.oidc}
        by_email = {identity.casefold(): name for identity, name in identities.items() if "@" in identity}
        return identities.get(subject) or by_email.get(email.casefold())

    @cached_property
    def _by_token(self) -> dict[str, str]:
        return {account.token_sha256: name for name, account in self.root.items() if account.token_sha256}


class _Loader(yaml.SafeLoader):
    """YAML in which no key comes twice: of two accounts with one name, the last would silently count."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise InvalidAccountsError(f"{min(twice)}: is there twice")
        return super().construct_mapping(node, deep)


def load_accounts(path: Path) -> Accounts:
    """Read and validate an accounts file.

    Raises:
        InvalidAccountsError: It is missing, is not YAML, or holds something that was not wanted.
    """
    try:
        content = yaml.load(path.read_text(), _Loader)  # noqa: S506 - a SafeLoader
    except InvalidAccountsError as error:
        raise InvalidAccountsError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidAccountsError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'no text'}") from error
    except yaml.YAMLError as error:
        # Not the error's own text: it quotes the line.
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise InvalidAccountsError(f"{path} is not YAML{where}") from None
    return checked(content or {}, path)


def checked(content: Mapping[str, Any] | Accounts, path: Path) -> Accounts:
    """Return accounts that are what was wanted.

    Args:
        content: As YAML has it.
        path: For the error.

    Raises:
        InvalidAccountsError: They are not.
    """
    try:
        return Accounts.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part != "[key]")
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidAccountsError(f"{path}: {where}: {message}" if where else f"{path}: {message}") from None


@contextlib.contextmanager
def changed(path: Path) -> Iterator[dict[str, Any]]:
    """Give what an accounts file holds, to be changed, and write it again: whole or not at all, with mode 0600.

    Who changes it at the same time waits.

    Raises:
        InvalidAccountsError: What is there, or what came of it, are no accounts; the file is left as it is.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        before = load_accounts(path) if path.exists() else Accounts({})
        content = before.model_dump(mode="json", exclude_defaults=True)
        yield content
        _write(path, checked(content, path))
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(path: Path, accounts: Accounts) -> None:
    text = yaml.safe_dump(accounts.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # with mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def hash_password(password: str) -> str:
    """Return what the accounts file holds of a password; it takes a while, and is meant to."""
    return _HASHER.hash(password)


def matches(password_hash: str, password: str) -> bool:
    """Say whether a password is the one that was hashed; it takes as long as hashing."""
    try:
        return _HASHER.verify(password_hash, password)
    except argon2.exceptions.VerificationError:
        return False


def new_token() -> tuple[str, str]:
    """Return a token for gRPC, and its digest for the accounts file."""
    token = secrets.token_urlsafe(32)
    return token, hashlib.sha256(token.encode()).hexdigest()
