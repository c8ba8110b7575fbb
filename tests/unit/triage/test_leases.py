from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.triage.domain.leases import Lease, Signer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIGNER = Signer(b"a secret")


@given(st.text(min_size=1), st.text(min_size=1), st.integers(1, 10**9))
def test_a_token_gives_its_lease_back(request_id: str, expert: str, milliseconds: int) -> None:
    lease = Lease(request_id, "l1", expert, "g1", NOW + timedelta(milliseconds=milliseconds))
    assert SIGNER.check(SIGNER.sign(lease), NOW) == lease


def test_a_token_ends_when_its_lease_does() -> None:
    token = SIGNER.sign(Lease("r1", "l1", "ann", "g1", NOW))
    assert SIGNER.check(token, NOW - timedelta(milliseconds=1)).expert == "ann"
    with pytest.raises(FailedPrecondition, match="lease: expired"):
        SIGNER.check(token, NOW)


def test_a_token_of_another_secret_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="lease"):
        SIGNER.check(Signer(b"another").sign(Lease("r1", "l1", "ann", "g1", NOW + timedelta(1))), NOW)


@given(st.text(max_size=200))
def test_any_other_text_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="lease"):
        SIGNER.check(token, NOW)


@given(st.integers(0, 30))
def test_a_changed_content_is_refused(position: int) -> None:
    token = SIGNER.sign(Lease("r1", "l1", "ann", "g1", NOW + timedelta(1)))
    changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
    with pytest.raises(InvalidArgument, match="lease"):
        SIGNER.check(changed, NOW)
