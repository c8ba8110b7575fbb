"""Checkpoints: signed roots, in the form that transparency logs use.

A checkpoint (C2SP, tlog-checkpoint) is a text of lines: the name of the chain, its size in rows, its root in base64,
and here two more, `last_offset` and `signed_at`. It stands in a note (C2SP, signed-note) with one signature below it
for each key: a name, and in base64 the key's id and the Ed25519 signature of the text. Any tool for such notes can
check them.

    gyre.record.v1/router.interactions.v1/0
    12345
    5Cr1AmgPyTGvwUMuFzHL2hYXwRMNE1uFVgTLfg8GNqw=
    last_offset 12412
    signed_at 2026-11-24T09:15:04.123456Z

    — gyre-audit 7dK1NnEAg0i...
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ORIGIN = "gyre.record.v1/"
_ED25519 = b"\x01"
_KEY_ID_BYTES = 4
_PRIVATE = "PRIVATE+KEY+"
_SIGNATURE = "— "


class InvalidKeyError(ValueError):
    """A text is no key, or none that Gyre signs with. The message does not repeat it."""


class InvalidNoteError(ValueError):
    """A checkpoint that is none, or that no given key has signed."""


@dataclass(frozen=True)
class VerifyingKey:
    """A public key: its text is `name+id+base64`, as signed notes have it."""

    name: str
    key_id: bytes
    public: Ed25519PublicKey

    @classmethod
    def parse(cls, text: str) -> "VerifyingKey":
        """Return the key that a text is.

        Raises:
            InvalidKeyError: It is none.
        """
        name, key_id, raw = _parts(text)
        key = _verifying_key(name, Ed25519PublicKey.from_public_bytes(raw))
        if key.key_id != key_id:
            raise InvalidKeyError("the id of the key is not that of its name and bytes")
        return key

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_base64(_ED25519 + self.public.public_bytes_raw())}"

    @property
    def label(self) -> str:
        """The key's name and id, without the key."""
        return f"{self.name}+{self.key_id.hex()}"


@dataclass(frozen=True)
class SigningKey:
    """A private key: its text is that of a public one with `PRIVATE+KEY+` before it and the seed in its place."""

    verifying: VerifyingKey
    private: Ed25519PrivateKey

    @classmethod
    def generate(cls, name: str) -> "SigningKey":
        """Return a new key.

        Raises:
            InvalidKeyError: The name is empty, or has white space or a plus in it.
        """
        if not name or "+" in name or any(character.isspace() for character in name):
            raise InvalidKeyError(f"{name!r} cannot name a key: wanted no white space and no plus")
        private = Ed25519PrivateKey.generate()
        return cls(_verifying_key(name, private.public_key()), private)

    @classmethod
    def parse(cls, text: str) -> "SigningKey":
        """Return the key that a text is.

        Raises:
            InvalidKeyError: It is none.
        """
        if not text.startswith(_PRIVATE):
            raise InvalidKeyError(f"a key to sign with begins with {_PRIVATE}")
        name, key_id, raw = _parts(text.removeprefix(_PRIVATE))
        private = Ed25519PrivateKey.from_private_bytes(raw)
        key = cls(_verifying_key(name, private.public_key()), private)
        if key.verifying.key_id != key_id:
            raise InvalidKeyError("the id of the key is not that of its name and bytes")
        return key

    def sign(self, text: str) -> bytes:
        """Return the Ed25519 signature of a text, 64 bytes."""
        return self.private.sign(text.encode())

    def secret(self) -> str:
        """Return the text to keep secret, from which the key can be had again."""
        return f"{_PRIVATE}{self.verifying.label}+{_base64(_ED25519 + self.private.private_bytes_raw())}"


@dataclass(frozen=True)
class Checkpoint:
    """What is signed: that a chain has these rows, up to the one at an offset."""

    topic: str
    partition: int
    size: int
    root: bytes
    last_offset: int
    signed_at: datetime

    @property
    def chain(self) -> str:
        """`topic/partition`."""
        return f"{self.topic}/{self.partition}"

    @property
    def text(self) -> str:
        """The lines that are signed."""
        at = self.signed_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        head = f"{_ORIGIN}{self.chain}\n{self.size}\n{_base64(self.root)}"
        return f"{head}\nlast_offset {self.last_offset}\nsigned_at {at}\n"

    def signed(self, keys: Sequence[SigningKey]) -> str:
        """Return the note that holds this checkpoint, signed with every key."""
        signatures = (
            f"{_SIGNATURE}{key.verifying.name} {_base64(key.verifying.key_id + key.sign(self.text))}\n" for key in keys
        )
        return f"{self.text}\n{''.join(signatures)}"

    @classmethod
    def opened(cls, note: str, keys: Iterable[VerifyingKey]) -> "Checkpoint":
        """Return the checkpoint in a note, once a key is found that has signed it.

        Raises:
            InvalidNoteError: It is none; none of the keys has signed it; or a signature in the name of one is false.
        """
        text, separator, signatures = note.partition("\n\n")
        if not separator:
            raise InvalidNoteError("is no signed note: it has no signatures")
        _check_signatures(f"{text}\n", signatures, {(key.name, key.key_id): key for key in keys})
        return cls.parse(note)

    @classmethod
    def parse(cls, note: str) -> "Checkpoint":
        """Return the checkpoint in a note, whoever signed it.

        Raises:
            InvalidNoteError: It is none.
        """
        try:
            origin, size, root, last_offset, signed_at = note.partition("\n\n")[0].split("\n")
            topic, _, partition = origin.removeprefix(_ORIGIN).rpartition("/")
            if not origin.startswith(_ORIGIN) or not topic:
                raise ValueError("it is of another log")
            return cls(
                topic=topic,
                partition=int(partition),
                size=int(size),
                root=base64.b64decode(root, validate=True),
                last_offset=int(last_offset.removeprefix("last_offset ")),
                signed_at=datetime.fromisoformat(signed_at.removeprefix("signed_at ")),
            )
        except ValueError as error:
            raise InvalidNoteError(f"is no checkpoint: {error}") from error


def chain_of(note: str) -> str:
    """Return the chain, `topic/partition`, that a note says it is of; empty where it says none."""
    return note.partition("\n")[0].removeprefix(_ORIGIN) if note.startswith(_ORIGIN) else ""


def notes(lines: Iterable[str]) -> Iterator[str]:
    """Yield the notes that lines hold one after the other, with an empty line between two."""
    note: list[str] = []
    for line in lines:
        if not line.strip() and note and note[-1].startswith(_SIGNATURE):
            yield "".join(note)
            note = []
        else:
            note.append(line)
    if note:
        yield "".join(note)


def _check_signatures(text: str, signatures: str, keys: dict[tuple[str, bytes], VerifyingKey]) -> None:
    found, others = False, []
    for line in signatures.splitlines():
        name, _, encoded = line.removeprefix(_SIGNATURE).partition(" ")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except ValueError:
            raw = b""
        if not line.startswith(_SIGNATURE) or len(raw) <= _KEY_ID_BYTES:
            raise InvalidNoteError("is no signed note: a line below the text is no signature")
        key = keys.get((name, raw[:_KEY_ID_BYTES]))
        if key is None:
            others.append(f"{name}+{raw[:_KEY_ID_BYTES].hex()}")
            continue
        try:
            key.public.verify(raw[_KEY_ID_BYTES:], text.encode())
        except InvalidSignature:
            raise InvalidNoteError(f"the signature of {key.label} is false") from None
        found = True
    if not found:
        raise InvalidNoteError(f"is signed by {', '.join(others) or 'nobody'}, and by none of the keys given")


def _parts(text: str) -> tuple[str, bytes, bytes]:
    try:
        name, key_id, encoded = text.split("+", 2)
        raw = base64.b64decode(encoded, validate=True)
        if not name or raw[:1] != _ED25519 or len(raw) != 33 or len(key_id) != 2 * _KEY_ID_BYTES:
            raise ValueError
        return name, bytes.fromhex(key_id), raw[1:]
    except ValueError:
        raise InvalidKeyError("wanted name+id+base64, as `gyre audit keygen` writes a key") from None


def _verifying_key(name: str, public: Ed25519PublicKey) -> VerifyingKey:
    digest = sha256(name.encode() + b"\n" + _ED25519 + public.public_bytes_raw()).digest()
    return VerifyingKey(name, digest[:_KEY_ID_BYTES], public)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
