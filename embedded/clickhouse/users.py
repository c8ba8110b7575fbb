"""Who may ask, and who may only read.

The users file is JSON: `{"users": {"audit": {"password_sha256_hex": "...", "readonly": false}}}`. Passwords are made by
`create_users_file`, which returns them once and keeps only their digests.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embedded.clickhouse.errors import ClickHouseError

# On a server each has the grants of deploy/clickhouse; the engine has none, and the front only tells reading from all.
READ_ONLY_BY_USER = {"audit": False, "analyst": True, "triage": True}


class User(BaseModel):
    """One entry of the users file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    password_sha256_hex: str = Field(pattern="^[0-9a-f]{64}$")
    readonly: bool


class Users(BaseModel):
    """The users file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: dict[str, User] = Field(min_length=1)

    @classmethod
    def load(cls, path: Path) -> Users:
        """Reads the users file.

        Raises:
            ValueError: the file is missing, or isn't what the module docstring describes; one sentence, no secrets.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise ValueError(
                f"the users file {path} does not exist; `gyre up` makes it, as does create_users_file in this package"
            ) from None
        except ValidationError as exc:
            first = exc.errors(include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the document"
            raise ValueError(f"the users file {path} is not valid at {where}: {first['msg']}") from None

    def authenticate(self, name: str, password: str) -> User:
        """Returns the user.

        Raises:
            ClickHouseError: code 516; the same for a wrong password and for a name that doesn't exist.
        """
        user = self.users.get(name)
        digest = hashlib.sha256(password.encode()).hexdigest()
        expected = user.password_sha256_hex if user is not None else "0" * 64
        if not hmac.compare_digest(digest, expected) or user is None:
            raise ClickHouseError.named(
                516,
                "AUTHENTICATION_FAILED",
                f"{name}: Authentication failed: password is incorrect, or there is no user with such name.",
            )
        return user


def create_users_file(path: Path, passwords: Mapping[str, str] | None = None) -> dict[str, str]:
    """Writes the users `audit` (all rights), `analyst` and `triage` (read-only), readable by this account alone.

    Args:
        path: the users file; its folder is made.
        passwords: by user name, where they are decided elsewhere; otherwise each is 32 random bytes.

    Returns:
        The passwords by user name, which are written nowhere.

    Raises:
        FileExistsError: the file is there already; delete it to make new passwords.
    """
    chosen = {name: secrets.token_urlsafe(32) for name in READ_ONLY_BY_USER} | dict(passwords or {})
    if unknown := chosen.keys() - READ_ONLY_BY_USER.keys():
        raise ValueError(f"passwords: unknown user {min(unknown)!r}; wanted {', '.join(READ_ONLY_BY_USER)}")
    users = Users(
        users={
            name: User(password_sha256_hex=hashlib.sha256(chosen[name].encode()).hexdigest(), readonly=readonly)
            for name, readonly in READ_ONLY_BY_USER.items()
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(users.model_dump_json(indent=2) + "\n")
    return chosen
