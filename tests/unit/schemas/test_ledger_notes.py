"""Checkpoints: what a note is, whose signature counts, and what is refused."""

import base64
from datetime import UTC, datetime

import pytest

from schemas.ledger.notes import Checkpoint, InvalidKeyError, InvalidNoteError, SigningKey, VerifyingKey, notes

OLD, NEW, STRANGER = (SigningKey.generate(name) for name in ("old", "new", "stranger"))
CHECKPOINT = Checkpoint(
    topic="router.interactions.v1",
    partition=3,
    size=12_345,
    root=bytes(range(32)),
    last_offset=12_412,
    signed_at=datetime(2026, 11, 24, 9, 15, 4, 123456, tzinfo=UTC),
)
# The example of golang.org/x/mod/sumdb/note, which signs in the same form.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETERS_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETERS_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_checkpoint_is_a_note_that_any_tool_for_transparency_logs_reads() -> None:
    text, signature = CHECKPOINT.signed([OLD]).split("\n\n")
    assert text.split("\n") == [
        "gyre.record.v1/router.interactions.v1/3",
        "12345",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "last_offset 12412",
        "signed_at 2026-11-24T09:15:04.123456Z",
    ]
    assert signature.startswith("— old ")


def test_keys_are_written_as_others_write_them() -> None:
    assert str(VerifyingKey.parse(PETER)) == PETER
    secret = SigningKey.parse(PETERS_SECRET)
    assert secret.secret() == PETERS_SECRET
    assert str(secret.verifying) == PETER


def test_a_note_that_others_have_signed_is_believed_and_is_no_checkpoint() -> None:
    with pytest.raises(InvalidNoteError, match="is no checkpoint"):
        Checkpoint.opened(PETERS_NOTE, [VerifyingKey.parse(PETER)])
    with pytest.raises(InvalidNoteError, match="is false"):
        Checkpoint.opened(PETERS_NOTE.replace("think", "thing"), [VerifyingKey.parse(PETER)])


def test_what_was_signed_is_what_is_opened() -> None:
    assert Checkpoint.opened(CHECKPOINT.signed([OLD]), [OLD.verifying]) == CHECKPOINT


def test_while_keys_are_changed_either_opens_a_note() -> None:
    note = CHECKPOINT.signed([OLD, NEW])
    for key in (OLD, NEW):
        assert Checkpoint.opened(note, [key.verifying]) == CHECKPOINT


def test_a_note_that_no_given_key_has_signed_is_refused_and_says_who_did() -> None:
    with pytest.raises(InvalidNoteError, match=r"is signed by stranger\+[0-9a-f]{8}, and by none of the keys given"):
        Checkpoint.opened(CHECKPOINT.signed([STRANGER]), [OLD.verifying, NEW.verifying])


def test_a_false_signature_in_the_name_of_a_given_key_is_refused_even_beside_a_true_one() -> None:
    forged = CHECKPOINT.signed([OLD]).split("\n\n")[1]
    true = Checkpoint(**{**vars(CHECKPOINT), "size": 9}).signed([NEW])
    with pytest.raises(InvalidNoteError, match="is false"):
        Checkpoint.opened(true + forged, [OLD.verifying, NEW.verifying])


@pytest.mark.parametrize("position", range(0, 190, 3))
def test_no_character_of_a_note_can_be_changed(position: int) -> None:
    note = CHECKPOINT.signed([OLD])
    character = note[position]
    changed = note[:position] + ("x" if character != "x" else "y") + note[position + 1 :]
    with pytest.raises(InvalidNoteError):
        Checkpoint.opened(changed, [OLD.verifying])


def test_notes_are_told_apart_again() -> None:
    written = [CHECKPOINT.signed([OLD]), CHECKPOINT.signed([OLD, NEW]), CHECKPOINT.signed([NEW])]
    assert list(notes("\n".join(written).splitlines(keepends=True))) == written
    assert list(notes([])) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no-key",
        "name+00000000+" + base64.b64encode(b"\x01" + bytes(31)).decode(),
        "name+00000000+" + base64.b64encode(b"\x01" + bytes(32)).decode(),
        "name+00000000+" + base64.b64encode(b"\x02" + bytes(32)).decode(),
        PETER.replace("Peter", "Paul"),
        PETER[:-4],
    ],
)
def test_what_is_no_key_is_refused_without_being_repeated(text: str) -> None:
    for parse, given in (
        (VerifyingKey.parse, text),
        (SigningKey.parse, f"PRIVATE+KEY+{text}"),
        (SigningKey.parse, text),
    ):
        with pytest.raises(InvalidKeyError) as raised:
            parse(given)
        assert not text or text not in str(raised.value)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "line\nbreak"])
def test_a_name_that_a_note_could_not_hold_is_refused(name: str) -> None:
    with pytest.raises(InvalidKeyError):
        SigningKey.generate(name)
