"""Sessions: who has signed in at the console, in a signed cookie, until when."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from services.triage.domain.tokens import TokenSigner


class Session(msgspec.Struct, frozen=True, array_like=True):
    """What the cookie says.

    Attributes:
        session_id: Of this one.
        name: Of the account.
        credential: Fingerprint of what was proven; another one ends the session.
        signed_in_at: In seconds since the epoch.
        seen_at: When it was last used, to the minute or so.
    """

    session_id: str
    name: str
    credential: str
    signed_in_at: int
    seen_at: int


@dataclass(frozen=True)
class Patience:
    """How long a session lasts.

    Attributes:
        idle: Without being used.
        whole: In any case.
    """

    idle: timedelta
    whole: timedelta


class Sessions:
    """Writes and reads sessions. Any process with the same secret reads the same ones."""

    def __init__(self, secret: bytes, patience: Patience) -> None:
        self._cookies = TokenSigner(secret, "session")
        self._forms = TokenSigner(secret, "form")
        self._patience = patience
        self._ended: dict[str, int] = {}  # session ids, until which second they have to be remembered, at most

    def begin(self, session_id: str, name: str, credential: str, now: datetime) -> Session:
        """Return a new session."""
        seconds = int(now.timestamp())
        return Session(session_id, name, credential, seconds, seconds)

    def cookie(self, session: Session) -> str:
        """Return a session as a browser keeps it."""
        return self._cookies.sign(msgspec.json.encode(session))

    def read(self, cookie: str, now: datetime) -> Session | None:
        """Return the session of a cookie; nothing when it is none, or is over."""
        try:
            session = msgspec.json.decode(self._cookies.content(cookie), type=Session)
        except ValueError:
            return None
        seen, begun = (datetime.fromtimestamp(each, UTC) for each in (session.seen_at, session.signed_in_at))
        is_over = now >= seen + self._patience.idle or now >= begun + self._patience.whole
        return None if is_over or session.session_id in self._ended else session

    def used(self, session: Session, now: datetime) -> Session | None:
        """Return the session as seen now; nothing while the cookie is fresh enough to be left alone."""
        seconds = int(now.timestamp())
        fresh_seconds = min(60.0, self._patience.idle.total_seconds() / 10)
        if seconds - session.seen_at < fresh_seconds:
            return None
        return msgspec.structs.replace(session, seen_at=seconds)

    def end(self, session_id: str, now: datetime) -> None:
        """End a session: a copy of its cookie is of no use in this process."""
        seconds = int(now.timestamp())
        self._ended = {each: until for each, until in self._ended.items() if until > seconds}
        self._ended[session_id] = seconds + int(self._patience.whole.total_seconds())

    def form_token(self, session_id: str) -> str:
        """Return what each form of a session holds, and no other site knows."""
        return self._forms.sign(session_id.encode())

    def is_form_token(self, token: str, session_id: str) -> bool:
        """Say whether a form came from a page of a session."""
        try:
            return self._forms.content(token) == session_id.encode()
        except ValueError:
            return False
