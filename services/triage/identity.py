"""The use cases of signing in: who is it, and may they go on? Console and gRPC both ask here."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from schemas.events import ReviewAction
from services.runtime.clock import Clock
from services.runtime.errors import InvalidArgument, PermissionDenied, Unauthenticated
from services.triage.accounts import Account, matches
from services.triage.domain.access import LOCAL, Identified, Person
from services.triage.domain.limits import Attempts, Pace
from services.triage.domain.sessions import Session, Sessions
from services.triage.ports import Actions
from services.triage.state import FollowedAccounts

LOOK_SECONDS = 1.0
MAX_NAME, MAX_PASSWORD = 128, 1024
# Attempts without a wait, and the longest wait. Many people may come from one address; and whoever guesses at an
# account can make its owner wait, so that never takes long.
FREE_PER_ACCOUNT, LONGEST_PER_ACCOUNT_SECONDS = 5, 60.0
FREE_PER_ADDRESS, LONGEST_PER_ADDRESS_SECONDS = 20, 900.0
# Its detail is the session, by whose id alone nobody comes in.
SIGNED_OUT = "signed-out"
NOT_LOCAL = "there are no accounts (GYRE_TRIAGE_ACCOUNTS), so this machine alone is answered"


@dataclass(frozen=True)
class Visitor:
    """Who has a page open.

    Attributes:
        person: Who it is.
        session: By which they are known; none where there are no accounts.
    """

    person: Person
    session: Session | None


class Identity:
    """Tells who somebody is, by what they show."""

    def __init__(
        self,
        accounts: FollowedAccounts | None,
        sessions: Sessions,
        actions: Actions,
        requests_per_minute: int,
        clock: Clock,
    ) -> None:
        """Say by what people are known.

        Args:
            accounts: Those that there are; none: whoever is on this machine is its one local admin.
            sessions: Of the console.
            actions: Where it goes on record who came.
            requests_per_minute: Of one session.
            clock: Gives time and ids.
        """
        self._file = accounts
        self._sessions = sessions
        self._actions = actions
        self._clock = clock
        self._of_accounts = Attempts(FREE_PER_ACCOUNT, LONGEST_PER_ACCOUNT_SECONDS)
        self._of_addresses = Attempts(FREE_PER_ADDRESS, LONGEST_PER_ADDRESS_SECONDS)
        self._pace = Pace(requests_per_minute)
        # A hash takes 64 MiB and a core for a while: two at a time, and never on the event loop.
        self._hashing = ThreadPoolExecutor(2, thread_name_prefix="passwords")

    @property
    def is_open(self) -> bool:
        """Whether there are no accounts."""
        return self._file is None

    @property
    def has_passwords(self) -> bool:
        """Whether anybody can sign in with one."""
        return self._file is not None and any(account.password for account in self._file.current.root.values())

    async def run(self) -> None:
        """Follow the accounts, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._file is not None:
                before = self._file.current
                self._file.read_again()
                self._record_changes(before.root, self._file.current.root)

    async def sign_in(self, name: str, password: str, address: str) -> Session:
        """Return a new session of whoever knows an account's password.

        Raises:
            InvalidArgument: The name or the password is longer than any may be.
            PermissionDenied: There is no such account, or the password is another one; it does not say which.
            ResourceExhausted: Too many attempts of this account, or from this address.
            Retryable: It cannot be put on record.
        """
        assert self._file is not None
        if len(name) > MAX_NAME or len(password) > MAX_PASSWORD:
            raise InvalidArgument(f"a name has at most {MAX_NAME} characters, a password {MAX_PASSWORD}")
        self._actions.check_room()
        known = self._file.current.root
        account = known.get(name)
        self._of_addresses.begin(address, self._clock.monotonic())
        self._of_accounts.begin(name, self._clock.monotonic())  # of names that are no account's, too: it tells nobody
        # What is no account is checked against somebody else's hash: it takes as long, and tells as little.
        stand_in = next((each.password for each in known.values() if each.password), None)
        shown = account.password if account is not None and account.password else stand_in
        is_right = shown is not None and await asyncio.get_running_loop().run_in_executor(
            self._hashing, matches, shown, password
        )
        if account is None or not account.password or not is_right:
            # Who types the password where the name belongs does not find it on record.
            self._record(name if account is not None else "", "sign-in-refused", f"password, from {address}")
            raise PermissionDenied("that is not the name and the password of an account")
        self._of_accounts.succeeded(name)
        self._of_addresses.take_back(address)
        return self._begin(name, account.fingerprint, f"password, from {address}")

    async def sign_in_as(self, find: Callable[[], Awaitable[Identified]], address: str) -> Session:
        """Return a new session of somebody whom the identity provider vouches for.

        Args:
            find: Asks it who that is.
            address: From which they come.

        Raises:
            PermissionDenied: It does not vouch for them, or no account is theirs.
            ResourceExhausted: Too many attempts from this address.
            Retryable: It does not answer, or it cannot be put on record.
        """
        assert self._file is not None
        self._actions.check_room()
        self._of_addresses.begin(address, self._clock.monotonic())
        try:
            found = await find()
            name = self._file.current.of_identity(found.subject, found.email)
            if name is None:
                raise PermissionDenied(
                    "the identity provider knows you, but no account here is yours; ask an admin for one"
                )
        except PermissionDenied:
            self._record("", "sign-in-refused", f"oidc, from {address}")
            raise
        self._of_addresses.take_back(address)
        return self._begin(name, self._file.current.root[name].fingerprint, f"oidc, from {address}")

    def sign_out(self, visitor: Visitor) -> None:
        """End a session."""
        if visitor.session is not None:
            self._sessions.end(visitor.session.session_id, self._clock.now())
            self._record(visitor.person.name, SIGNED_OUT, visitor.session.session_id)

    def take_action(self, action: ReviewAction) -> None:
        """Take in what somebody did in any replica: who signs out in one has done so in all."""
        if action.action == SIGNED_OUT:
            self._sessions.end(action.detail, action.at)

    def visitor(self, cookie: str) -> Visitor | None:
        """Return who has a page open; nothing when nobody has signed in, or the session is over.

        A session ends with its account, and when another password, identity or role is given to that.

        Raises:
            ResourceExhausted: The session has asked too much of late.
        """
        if self._file is None:
            return Visitor(LOCAL, None)
        session = self._sessions.read(cookie, self._clock.now())
        if session is None:
            return None
        account, person = self._file.current.root.get(session.name), self._file.current.person(session.name)
        if account is None or person is None or account.fingerprint != session.credential:
            return None
        self._pace.take(session.session_id, self._clock.monotonic())
        return Visitor(person, session)

    def cookie(self, session: Session) -> str:
        """Return a session as the browser keeps it."""
        return self._sessions.cookie(session)

    def renewed(self, visitor: Visitor) -> str | None:
        """Return the cookie of a session that goes on; nothing while the browser's is fresh enough."""
        used = visitor.session and self._sessions.used(visitor.session, self._clock.now())
        return self._sessions.cookie(used) if used else None

    def form_token(self, visitor: Visitor) -> str:
        """Return what each form of a visitor holds, and no other site knows."""
        return self._sessions.form_token(_form_owner(visitor))

    def is_form_token(self, token: str, visitor: Visitor) -> bool:
        """Say whether a form came from a visitor's page."""
        return self._sessions.is_form_token(token, _form_owner(visitor))

    def caller(self, token: str | None, address: str, *, is_local: bool) -> Person:
        """Return who calls the gRPC service.

        Args:
            token: What they show; none: nothing.
            address: From which they call.
            is_local: Whether that is this machine.

        Raises:
            Unauthenticated: It is no account's token, or there are no accounts and the call is from elsewhere.
            ResourceExhausted: Too many wrong tokens came from this address.
        """
        if self._file is None:
            if not is_local:
                raise Unauthenticated(NOT_LOCAL)
            return LOCAL
        if token is None:
            raise Unauthenticated("no token was shown; wanted the metadata `authorization: Bearer <token>`")
        name = self._file.current.of_token(token)
        person = self._file.current.person(name) if name is not None else None
        if person is None:
            self._of_addresses.begin(address, self._clock.monotonic())
            self._record("", "sign-in-refused", f"token, from {address}")
            raise Unauthenticated("authorization: that is no account's token")
        return person

    def _record_changes(self, old: Mapping[str, Account], new: Mapping[str, Account]) -> None:
        for what, names in (
            ("added", new.keys() - old.keys()),
            ("removed", old.keys() - new.keys()),
            ("changed", {name for name in old.keys() & new.keys() if old[name] != new[name]}),
        ):
            for name in sorted(names):
                self._record(name, "accounts-changed", what)

    def _begin(self, name: str, credential: str, how: str) -> Session:
        self._record(name, "signed-in", how)
        return self._sessions.begin(self._clock.new_id(), name, credential, self._clock.now())

    def _record(self, expert: str, action: str, detail: str) -> None:
        self._actions.record(
            ReviewAction(
                action_id=self._clock.new_id(), at=self._clock.now(), expert=expert, action=action, detail=detail
            )
        )


def _form_owner(visitor: Visitor) -> str:
    return visitor.session.session_id if visitor.session is not None else visitor.person.name
