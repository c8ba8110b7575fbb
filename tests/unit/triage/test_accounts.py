"""The accounts file: what may be in it, how it is written, and when it is read again."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.events import Sensitivity
from services.runtime.errors import Fatal
from services.triage.accounts import InvalidAccountsError, changed, hash_password, load_accounts, matches, new_token
from services.triage.domain.access import Person, Role
from services.triage.state import FollowedAccounts

HASH = hash_password("correct horse battery")
ANN = {"role": "lead", "clearance": "confidential", "tenants": ["care"], "password": HASH}
BOB = {"role": "expert", "clearance": "public", "tenants": "all", "oidc": "Bob@example.org"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "accounts.yaml"
    path.write_text(yaml.safe_dump({"ann": ANN, "bob": BOB}))
    return path


def test_an_account_says_who_somebody_is(path: Path) -> None:
    accounts = load_accounts(path)
    assert accounts.person("ann") == Person("ann", Role.LEAD, Sensitivity.CONFIDENTIAL, frozenset({"care"}))
    assert accounts.person("bob") == Person("bob", Role.EXPERT, Sensitivity.PUBLIC, None)
    assert accounts.person("eve") is None


def test_a_password_is_known_by_its_hash_alone() -> None:
    assert matches(HASH, "correct horse battery")
    assert not matches(HASH, "correct horse")
    assert hash_password("correct horse battery") != HASH


def test_somebody_is_found_by_token_and_by_what_the_identity_provider_says(path: Path) -> None:
    token, digest = new_token()
    with changed(path) as content:
        content["robot"] = {"role": "expert", "clearance": "public", "tenants": "all", "token_sha256": digest}
        content["carl"] = {**BOB, "oidc": "subject-7"}
    accounts = load_accounts(path)
    assert [accounts.of_token(each) for each in (token, digest, "")] == ["robot", None, None]
    assert accounts.of_identity("subject-7", "") == "carl"
    assert accounts.of_identity("SUBJECT-7", "") is None
    assert accounts.of_identity("x", "bob@EXAMPLE.org") == "bob"
    assert accounts.of_identity("x", "subject-7") is None
    assert accounts.of_identity("x", "") is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"ann": {**ANN, "role": "boss"}}, "ann.role: Input should be 'expert', 'lead' or 'admin'"),
        ({"ann": {**ANN, "clearance": "secret"}}, "ann.clearance: Input should be"),
        ({"ann": {**ANN, "tenants": None}}, "ann.tenants: wanted a list of tenants, or all"),
        ({"ann": {**ANN, "tenants": []}}, "ann.tenants: wanted a list of tenants, or all"),
        ({"ann": {**ANN, "tenants": ["care", 7]}}, "ann.tenants"),
        ({"ann": {key: value for key, value in ANN.items() if key != "tenants"}}, "ann.tenants: Field required"),
        ({"ann": {**ANN, "password": "hunter2hunter2"}}, "ann.password: wanted an argon2id hash"),
        ({"ann": {**ANN, "password": HASH.replace("argon2id", "argon2i")}}, "ann.password: wanted an argon2id hash"),
        ({"ann": {**ANN, "oidc": "ann"}}, "ann: password: wanted none beside oidc"),
        ({"ann": {**ANN, "password": None}}, "ann: password: wanted, or oidc, or token_sha256"),
        ({"ann": {**ANN, "token_sha256": "hunter2hunter2"}}, "ann.token_sha256: String should match"),
        ({"ann": {**ANN, "shoe_size": 7}}, "ann.shoe_size: Extra inputs are not permitted"),
        ({"bob": BOB, "rob": {**BOB, "oidc": "bob@example.org"}}, "rob.oidc: is bob's already"),
        ({"an n": ANN}, "an n: String should match"),
        (["ann"], "Input should be a valid dictionary"),
    ],
)
def test_what_is_wrong_is_named_by_account_and_field_and_no_secret_is_shown(
    path: Path, content: Any, problem: str
) -> None:
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InvalidAccountsError) as error:
        load_accounts(path)
    assert f"{path}: {problem}" in str(error.value)
    assert "hunter2" not in str(error.value)
    assert HASH not in str(error.value)


def test_a_file_that_is_none_is_named_without_its_content(path: Path) -> None:
    for text, problem in (("ann: {hunter2", "is not YAML (line 1)"), ("ann: {}\nann: {}", "ann: is there twice")):
        path.write_text(text)
        with pytest.raises(InvalidAccountsError) as error:
            load_accounts(path)
        assert problem in str(error.value)
        assert "hunter2" not in str(error.value)
    with pytest.raises(InvalidAccountsError, match="cannot be read: No such file"):
        load_accounts(path.with_name("none"))


def test_a_change_is_written_for_its_owner_alone_and_nothing_is_left_beside_it(path: Path) -> None:
    path.chmod(0o644)
    with changed(path) as content:
        content["bob"]["tenants"] = ["care"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == [path.name]
    person = load_accounts(path).person("bob")
    assert person is not None
    assert person.tenants == {"care"}


def test_a_bad_change_leaves_the_file_as_it_is(path: Path) -> None:
    before = path.read_text()
    with pytest.raises(InvalidAccountsError, match=r"bob\.role"), changed(path) as content:
        content["bob"]["role"] = "boss"
    assert path.read_text() == before


def test_a_link_to_the_file_stays_one(path: Path) -> None:
    link = path.with_name("link.yaml")
    link.symlink_to(path)
    with changed(link) as content:
        del content["bob"]
    assert link.is_symlink()
    assert load_accounts(path).person("bob") is None


def test_the_file_is_read_again_when_it_changes_and_a_bad_one_changes_nothing(path: Path) -> None:
    followed = FollowedAccounts(path)
    before = followed.current
    followed.read_again()
    assert followed.current is before
    with changed(path) as content:
        del content["bob"]
    followed.read_again()
    assert list(followed.current.root) == ["ann"]
    path.write_text("ann: {}")
    followed.read_again()
    path.unlink()
    followed.read_again()
    assert list(followed.current.root) == ["ann"]


def test_nothing_starts_with_accounts_that_cannot_be_used(path: Path) -> None:
    path.write_text("ann: {role: lead}")
    with pytest.raises(Fatal, match=r"GYRE_TRIAGE_ACCOUNTS: .*ann\.clearance: Field required"):
        FollowedAccounts(path)


@pytest.mark.parametrize("change", [{"role": "admin"}, {"password": hash_password("another password")}])
def test_another_role_or_password_is_another_fingerprint(path: Path, change: dict[str, str]) -> None:
    before = load_accounts(path).root["ann"].fingerprint
    with changed(path) as content:
        content["ann"]["tenants"] = "all"
    assert load_accounts(path).root["ann"].fingerprint == before
    with changed(path) as content:
        content["ann"].update(change)
    assert load_accounts(path).root["ann"].fingerprint != before
