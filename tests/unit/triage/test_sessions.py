from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.triage.domain.sessions import Patience, Sessions
from services.triage.domain.tokens import TokenSigner
from tests.unit.triage.builders import NOW

PATIENCE = Patience(idle=timedelta(minutes=30), whole=timedelta(hours=8))


def _sessions(secret: bytes = b"secret") -> Sessions:
    return Sessions(secret, PATIENCE)


def test_a_session_is_read_by_every_replica_with_the_secret_and_by_no_other() -> None:
    session = _sessions().begin("s1", "ann", "c1", NOW)
    cookie = _sessions().cookie(session)
    assert _sessions().read(cookie, NOW) == session
    assert _sessions(b"another").read(cookie, NOW) is None


@given(st.integers(0, 200), st.characters())
def test_a_changed_cookie_is_none(position: int, character: str) -> None:
    cookie = _sessions().cookie(_sessions().begin("s1", "ann", "c1", NOW))
    changed = cookie[:position] + character + cookie[position + 1 :]
    if changed != cookie:
        assert _sessions().read(changed, NOW) is None


def test_what_is_signed_for_something_else_is_no_session() -> None:
    content = b'["s1","ann","c1",1767225600,1767225600]'
    assert _sessions().read(TokenSigner(b"secret", "session").sign(content), NOW) is not None
    assert _sessions().read(TokenSigner(b"secret", "lease").sign(content), NOW) is None
    assert _sessions().read(_sessions().form_token("s1"), NOW) is None


def test_a_session_that_is_not_used_ends_and_one_that_is_goes_on_until_its_time_is_over() -> None:
    sessions, now = _sessions(), NOW
    session = sessions.begin("s1", "ann", "c1", now)
    assert sessions.read(sessions.cookie(session), now + timedelta(minutes=29)) is not None
    assert sessions.read(sessions.cookie(session), now + timedelta(minutes=30)) is None
    while (now := now + timedelta(minutes=20)) < NOW + PATIENCE.whole:
        used = sessions.used(session, now)
        assert used is not None
        session = used
        assert sessions.read(sessions.cookie(session), now) == session
    assert sessions.read(sessions.cookie(session), now) is None


def test_a_fresh_cookie_is_left_alone() -> None:
    sessions = _sessions()
    assert sessions.used(sessions.begin("s1", "ann", "c1", NOW), NOW + timedelta(seconds=50)) is None


def test_a_session_that_was_ended_stays_so_though_its_cookie_was_copied() -> None:
    sessions = _sessions()
    one, other = sessions.begin("s1", "ann", "c1", NOW), sessions.begin("s2", "ann", "c1", NOW)
    used = sessions.used(one, NOW + timedelta(minutes=5))
    assert used is not None
    sessions.end("s1", NOW)
    sessions.end("s3", NOW + timedelta(minutes=1))
    for copy in (one, used):
        assert sessions.read(sessions.cookie(copy), NOW + timedelta(minutes=6)) is None
    assert sessions.read(sessions.cookie(other), NOW) is not None


def test_a_forms_token_is_that_of_its_session_alone() -> None:
    token = _sessions().form_token("s1")
    assert _sessions().is_form_token(token, "s1")
    assert not _sessions().is_form_token(token, "s2")
    assert not _sessions().is_form_token("", "s1")
