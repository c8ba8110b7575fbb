from __future__ import annotations

import stat
from pathlib import Path

import pytest

from embedded.clickhouse.errors import ClickHouseError
from embedded.clickhouse.users import Users, create_users_file


def test_new_users_have_passwords_that_the_file_does_not_tell(tmp_path: Path) -> None:
    path = tmp_path / "new" / "users.json"
    passwords = create_users_file(path)
    users = Users.load(path)
    assert not users.authenticate("audit", passwords["audit"]).readonly
    assert users.authenticate("analyst", passwords["analyst"]).readonly
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not any(password in path.read_text() for password in passwords.values())
    assert len(set(passwords.values())) == len(passwords)


def test_passwords_may_be_given_and_a_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    assert create_users_file(path, {"audit": "given"})["audit"] == "given"
    Users.load(path).authenticate("audit", "given")
    with pytest.raises(FileExistsError):
        create_users_file(path)
    with pytest.raises(ValueError, match="unknown user 'root'"):
        create_users_file(tmp_path / "other.json", {"root": "x"})


def test_a_wrong_password_and_an_unknown_name_are_refused_alike(tmp_path: Path) -> None:
    create_users_file(path := tmp_path / "users.json", {"audit": "given"})
    texts = []
    for name in ("audit", "nobody"):
        with pytest.raises(ClickHouseError) as failure:
            Users.load(path).authenticate(name, "wrong")
        assert failure.value.code == 516
        texts.append(failure.value.text.replace(name, "?"))
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("{", "the document"),
        ('{"users": {}}', "users"),
        ('{"users": {"a": {"password_sha256_hex": "secret", "readonly": true}}}', "users.a.password_sha256_hex"),
        ('{"users": {"a": {"password_sha256_hex": "' + "0" * 64 + '"}}}', "users.a.readonly"),
    ],
)
def test_a_users_file_that_is_not_right_is_named_with_the_place(tmp_path: Path, content: str, where: str) -> None:
    (path := tmp_path / "users.json").write_text(content)
    with pytest.raises(ValueError, match=f"not valid at {where}") as failure:
        Users.load(path)
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    ("raised", "code", "text", "status"),
    [
        (
            "Code: 62. DB::Exception: Syntax error: failed. (SYNTAX_ERROR)",
            62,
            "Code: 62. DB::Exception: Syntax error: failed. (SYNTAX_ERROR)",
            400,
        ),
        (
            "Code: 73. DB::Exception: Code: 73. DB::Exception: Unknown format Nope. (UNKNOWN_FORMAT) "
            "(version 26.9.2.1). (UNKNOWN_FORMAT) (version 26.9.2.1 (official build))",
            73,
            "Code: 73. DB::Exception: Unknown format Nope. (UNKNOWN_FORMAT)",
            404,
        ),
        (
            "Code: 76. DB::ErrnoException: Cannot open file a: , errno: 28, strerror: No space left on device. "
            "(CANNOT_OPEN_FILE) (version 26.9.2.1)",
            76,
            "Code: 76. DB::Exception: Cannot open file a: , errno: 28, strerror: No space left on device. "
            "(CANNOT_OPEN_FILE)",
            503,
        ),
        (
            "std::exception. Code: 1001, type: avro::Exception, e.what() = EOF reached (version 26.9.2.1)",
            1001,
            "std::exception. Code: 1001, type: avro::Exception, e.what() = EOF reached",
            500,
        ),
        ("something else", 1001, "Code: 1001. DB::Exception: something else (STD_EXCEPTION)", 500),
    ],
)
def test_an_error_of_the_engine_is_told_as_a_server_tells_it(raised: str, code: int, text: str, status: int) -> None:
    error = ClickHouseError.from_engine(raised)
    assert (error.code, error.text, error.http_status) == (code, text, status)
