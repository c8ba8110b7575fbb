"""docs/dependencies.md names everything that is pinned, and nothing comes under a licence that nobody has accepted."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.licenses import canonicalize_license_expression

from requirements.licences import SERVICES, TABLE, licences_in, pins, review

ROOT = Path(__file__).parents[2]
REVIEW = review()
BESIDE: list[dict[str, Any]] = REVIEW["beside"]
ACCEPTED = {*REVIEW["accepted"], *REVIEW["accepted_because"]}
ROWS = {
    (name, version): (licence, wanted_by.split(", "))
    for name, version, licence, wanted_by in re.findall(
        r"^\| ([\w.-]+) \| (\S+) \| ([^|]+) \| ([^|]+) \|$", TABLE.read_text(), re.MULTILINE
    )
    if wanted_by.split(", ")[0] in {path.stem for path in (ROOT / "requirements").glob("*.txt")} | {"embedded", "demo"}
}


def _images() -> set[str]:
    said = {
        part["image"]
        for name in ("docker-compose.yml", "docker-compose.gpu.yml")
        for part in yaml.safe_load((ROOT / name).read_text())["services"].values()
        if "image" in part and "build" not in part
    }
    for file in (ROOT / "deploy" / "containers").glob("*Dockerfile"):
        arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", file.read_text(), re.MULTILINE))
        for image in re.findall(r"^FROM (\S+)", file.read_text(), re.MULTILINE):
            said.add(arguments.get(image.strip("${}"), image))
    return said


def test_everything_that_is_pinned_is_in_the_list_at_its_version_and_nothing_else() -> None:
    assert set(ROWS) == set(pins()), "run `make requirements`"


def test_the_list_says_which_service_wants_what() -> None:
    for pin, files in pins().items():
        assert set(files) - {"dev"} == set(ROWS[pin][1]) - {"dev", "embedded", "demo"}, (
            f"{pin}: run `make requirements`"
        )


@pytest.mark.parametrize(
    "licence", sorted({licence for licence, _ in ROWS.values()} | {each["licence"] for each in BESIDE})
)
def test_every_licence_is_an_spdx_expression(licence: str) -> None:
    assert canonicalize_license_expression(licence) == licence


def test_no_package_has_a_licence_that_nobody_accepted() -> None:
    for (name, _), (licence, _) in ROWS.items():
        exception = REVIEW["exceptions"].get(name)
        if exception is None:
            assert licences_in(licence) <= ACCEPTED, (
                f"{name}: accept {licence} in requirements/licences.yaml, and say why"
            )
        else:
            assert (licence, bool(exception["because"])) == (exception["licence"], True)


def test_nothing_else_has_a_licence_that_nobody_accepted() -> None:
    for each in BESIDE:
        if "because" not in each and each.get("package") not in REVIEW["exceptions"]:
            assert licences_in(each["licence"]) <= ACCEPTED, each["what"]


def test_no_copyleft_and_nothing_non_commercial_is_accepted_of_anything() -> None:
    assert not [each for each in ACCEPTED if re.search(r"GPL|-NC\b|SSPL|BUSL|CC-BY-SA|Commons-Clause", each)]


def test_what_is_accepted_for_development_alone_is_in_no_service() -> None:
    for (name, _), (_, wanted_by) in ROWS.items():
        if REVIEW["exceptions"].get(name, {}).get("only") == "development":
            assert not {*SERVICES, "embedded", "demo", "data", "triton"} & set(wanted_by), name


def test_no_service_runs_what_is_under_the_gpl() -> None:
    for (name, _), (licence, wanted_by) in ROWS.items():
        if set(SERVICES) & set(wanted_by):
            assert not re.search(r"\bA?GPL", licence), name


def test_every_image_that_is_started_or_built_upon_is_in_the_list() -> None:
    listed = [each["image"] for each in BESIDE if "image" in each]
    for image in _images():
        assert any(name in re.split(r"[:@]", image)[0] or name in image for name in listed), image


def test_versions_beside_packages_are_those_of_the_files_that_say_them() -> None:
    for each in BESIDE:
        for file in each.get("said_in", ()):
            assert each.get("version", "") in (ROOT / file).read_text(), f"{each['what']}: {file}"
        if "package" in each:
            assert each["package"] in {name for name, _ in pins()}, each["what"]


def test_npm_packages_have_accepted_licences() -> None:
    lock = json.loads((ROOT / "requirements" / "portkey" / "package-lock.json").read_text())
    for name, package in lock["packages"].items():
        if name:
            said = package["license"].replace("Public Domain", "LicenseRef-Public-Domain")
            assert licences_in(said) <= ACCEPTED, name


def test_nothing_is_reviewed_that_is_not_pinned() -> None:
    reviewed = {name for names in REVIEW["reviewed"].values() for name in names} | set(REVIEW["exceptions"])
    assert reviewed <= {name for name, _ in pins()}


def test_every_accepted_licence_is_somewhere() -> None:
    lock = (
        (ROOT / "requirements" / "portkey" / "package-lock.json")
        .read_text()
        .replace("Public Domain", "LicenseRef-Public-Domain")
    )
    everywhere = set().union(*(licences_in(licence) for licence, _ in ROWS.values()))
    assert {each for each in REVIEW["accepted_because"] if each not in everywhere and f'"{each}"' not in lock} == set()
