import pytest

from services.router.settings import Settings
from services.runtime.errors import InvalidSettings
from services.triage.settings import Settings as TriageSettings

TLS_DIR = "GYRE_TLS_DIR"


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TLS_DIR, raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "router.gyre.svc", ""])
def test_where_others_come_a_service_wants_tls_or_to_be_told_that_plain_is_meant(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for said in (None, ""):
        if said is not None:
            monkeypatch.setenv(TLS_DIR, said)
        with pytest.raises(InvalidSettings, match=f"GYRE_ROUTER_HOST is '{host}', where others come"):
            Settings(host=host)
    for said in ("/etc/gyre/tls", "none"):
        monkeypatch.setenv(TLS_DIR, said)
        assert Settings(host=host).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_on_its_own_machine_a_service_may_be_plain(host: str) -> None:
    assert Settings(host=host).host == host


def test_the_console_is_held_to_the_same() -> None:
    with pytest.raises(InvalidSettings, match=r"GYRE_TRIAGE_CONSOLE_HOST is .* where others come"):
        TriageSettings(console_host="0.0.0.0")
    assert TriageSettings(console_host="").console_host == ""  # where its service listens
