from pathlib import Path

import pytest

from embedded.errors import SettingsError
from embedded.settings import PORTS, Settings


def test_everything_has_a_default(tmp_path: Path) -> None:
    settings = Settings.from_environment({"GYRE_STATE_DIR": str(tmp_path)})
    assert settings.state_dir == tmp_path
    assert settings.ports == {variable: port.default for variable, port in PORTS.items()}


def test_the_environment_they_are_written_to_gives_the_same_settings(tmp_path: Path) -> None:
    settings = Settings(tmp_path, {"GYRE_ROUTER_HTTP_PORT": 4711}, tmp_path / "cache", tmp_path / "python")
    assert Settings.from_environment(settings.to_environment()) == settings


def test_what_is_downloaded_goes_where_xdg_says(tmp_path: Path) -> None:
    assert Settings.from_environment({"XDG_CACHE_HOME": str(tmp_path)}).cache_dir == tmp_path / "gyre"


@pytest.mark.parametrize("value", ["http", "0", "65536", "-1", "80.5"])
def test_a_port_that_is_none_is_refused_by_its_variable(value: str) -> None:
    with pytest.raises(SettingsError, match=r"GYRE_ROUTER_HTTP_PORT is .*wanted a port between 1 and 65535"):
        Settings.from_environment({"GYRE_ROUTER_HTTP_PORT": value})


def test_one_port_for_two_uses_is_refused_by_both_variables() -> None:
    with pytest.raises(SettingsError, match="GYRE_EMBEDDED_KAFKA_PORT and GYRE_ROUTER_HTTP_PORT are both 18080"):
        Settings.from_environment({"GYRE_EMBEDDED_KAFKA_PORT": "18080"})


def test_an_unknown_port_variable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="GYRE_ROUTR_HTTP_PORT is no port"):
        Settings(tmp_path, {"GYRE_ROUTR_HTTP_PORT": 1})


@pytest.mark.parametrize("name", ["100%", 'quo"te', "semi;colon", "new\nline", "x" * 90])
def test_a_state_folder_that_the_parts_could_not_use_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="GYRE_STATE_DIR"):
        Settings(Path("/") / name)
