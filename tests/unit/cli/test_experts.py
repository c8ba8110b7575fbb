"""`gyre experts` writes accounts that triage can use, and says what is wrong with others."""

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gyre.cli import main
from services.triage.accounts import Account, load_accounts, matches

PASSWORD = "correct horse battery"


class Experts:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, *arguments: str, typed: str = "") -> Result:
        environment = {"GYRE_TRIAGE_ACCOUNTS": str(self.path)}
        return CliRunner().invoke(main, ["experts", *arguments], input=typed, env=environment)

    def __getitem__(self, name: str) -> Account:
        return load_accounts(self.path).root[name]


@pytest.fixture
def experts(tmp_path: Path) -> Experts:
    return Experts(tmp_path / "secrets" / "accounts.yaml")


def test_an_account_is_added_with_a_password_from_standard_input(experts: Experts) -> None:
    result = experts("add", "ann", "--tenant", "care", "--tenant", "bank", typed=f"{PASSWORD}\n")
    assert result.exit_code == 0, result.output
    ann = experts["ann"]
    assert (ann.role, ann.clearance, ann.tenants) == ("expert", "internal", {"care", "bank"})
    assert ann.password is not None
    assert matches(ann.password, PASSWORD)
    assert PASSWORD not in result.output
    assert experts.path.stat().st_mode & 0o777 == 0o600


def test_a_token_is_shown_once_and_only_its_digest_kept(experts: Experts) -> None:
    result = experts("add", "robot", "--tenant", "all", "--token")
    token = result.stdout.strip()
    assert experts["robot"].token_sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert token not in experts.path.read_text()
    other = experts("change", "robot", "--token").stdout.strip()
    assert experts["robot"].token_sha256 == hashlib.sha256(other.encode()).hexdigest()
    assert other != token


def test_an_account_is_changed_as_far_as_is_said(experts: Experts) -> None:
    experts("add", "ann", "--tenant", "care", typed=PASSWORD)
    before = experts["ann"]
    assert experts("change", "ann", "--role", "lead", "--tenant", "all").exit_code == 0
    assert experts["ann"].model_dump() == {**before.model_dump(), "role": "lead", "tenants": "all"}
    assert experts("change", "ann", "--password", typed="another password").exit_code == 0
    password = experts["ann"].password
    assert password is not None
    assert matches(password, "another password")


def test_an_account_has_a_password_or_an_identity_and_each_takes_the_others_place(experts: Experts) -> None:
    experts("add", "ann", "--tenant", "all", "--oidc", "ann@example.org")
    experts("change", "ann", "--password", typed=PASSWORD)
    assert experts["ann"].oidc is None
    experts("change", "ann", "--oidc", "ann@example.org")
    assert (experts["ann"].oidc, experts["ann"].password) == ("ann@example.org", None)


def test_accounts_are_listed_without_any_secret_and_removed(experts: Experts) -> None:
    experts("add", "ann", "--tenant", "care", "--clearance", "restricted", typed=PASSWORD)
    experts("add", "robot", "--tenant", "all", "--token")
    listed = experts("list").output
    assert "ann                     expert  restricted    care   (password)\n" in listed
    assert "robot                   expert  internal      all tenants   (token)\n" in listed
    assert "argon2" not in listed
    assert experts("remove", "ann").exit_code == 0
    assert list(load_accounts(experts.path).root) == ["robot"]


@pytest.mark.parametrize(
    ("arguments", "typed", "problem"),
    [
        (["add", "ann", "--tenant", "all"], "short", "The password has 5 characters; wanted 12 to 1024."),
        (["add", "ann"], PASSWORD, "Say whose items they may see"),
        (["add", "ann", "--tenant", "all", "--tenant", "care"], PASSWORD, "--tenant all stands alone"),
        (["add", "ann", "--tenant", "Care!"], PASSWORD, "ann.tenants.0: String should match"),
        (["add", "a b", "--tenant", "all"], PASSWORD, "a b: String should match"),
        (["add", "there", "--tenant", "all"], PASSWORD, "There is an account there already"),
        (["change", "there"], "", "Nothing is to be changed"),
        (["change", "eve", "--role", "lead"], "", "There is no account eve in"),
        (["change", "there", "--no-token"], "", "there: password: wanted, or oidc, or token_sha256"),
        (["remove", "eve"], "", "there are there."),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(
    experts: Experts, arguments: list[str], typed: str, problem: str
) -> None:
    experts("add", "there", "--tenant", "all", "--token")
    before = experts.path.read_text()
    result = experts(*arguments, typed=typed)
    assert result.exit_code != 0
    assert problem in result.output
    assert "Traceback" not in result.output
    assert experts.path.read_text() == before


def test_the_file_is_that_of_the_stack_unless_another_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["experts", "list"], env={"GYRE_STATE_DIR": str(tmp_path), "GYRE_TRIAGE_ACCOUNTS": ""}
    )
    assert str(tmp_path / "run" / "secrets" / "accounts.yaml") in result.output
