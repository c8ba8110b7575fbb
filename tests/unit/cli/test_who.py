"""Who runs a command, as the record names them."""

import os
import pwd
from pathlib import Path

import pytest

from gyre.cli.who import account, operator
from tests.certificates import Folders


def test_it_is_the_account_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "somebody else")
    monkeypatch.delenv("GYRE_TLS_DIR", raising=False)
    assert account() == operator() == pwd.getpwuid(os.getuid()).pw_name


def test_an_account_without_a_name_is_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_000)
    assert account() == "2000000000"


def test_a_certificate_is_named_beside_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GYRE_TLS_DIR", str(Folders(tmp_path).of("operator")))
    assert operator() == f"{account()} as operator"
