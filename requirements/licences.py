"""Writes docs/dependencies.md: every package that is pinned here, its licence, and what comes beside packages.

A licence is what `licences.yaml` says or, where that does not name the package, what the installed package says of
itself: its licence expression (PEP 639), else its licence field, else its classifiers.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

HERE = Path(__file__).parent
TABLE = HERE.parent / "docs" / "dependencies.md"
SERVICES = ("router", "governance", "context", "audit", "triage", "trainer", "serving")
# What else runs where Gyre does. What is in no environment of these is used in development alone.
RUNS = (*SERVICES, "embedded", "demo", "data", "triton", "uv")

_PIN = re.compile(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)
_FIELDS = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "isc license": "ISC",
    "mit license": "MIT",
}
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}

_HEAD = """\
# What Gyre stands on, and under which licences

Gyre itself is under the [Apache License 2.0](../LICENSE). Never edited: `make requirements` makes this of what
`requirements/*.txt` pin, of what packages say of themselves, and of
[requirements/licences.yaml](../requirements/licences.yaml). [A test](../tests/contract/test_licences.py) holds it to
the pins, and every licence to those that are accepted.

What a wheel has in it beside its own code, such as the runtime libraries of compilers, is named where the package's
licence names it, and else in the wheel's own licence files alone. Of a package that is pinned at several versions, for
several Pythons, platforms or environments, the licence was read in one.

## Licences

Accepted of anything: {accepted}. Accepted for a reason:
"""
_RUNS_HEAD = """\
## What runs

Packages where the services or the one-machine stack run. `embedded` and `demo` are extras for one machine; `data` are
the models and texts that come in packages, `triton` is Triton's own environment, and `uv` installs.
"""
_DEVELOPMENT_HEAD = """\
## What development uses alone

Tools and tests (`dev`); in environments of their own peers of benchmarks (`litellm`, `presidio`, `trl`), a profiler,
and texts for recipes (`corpora`).
"""


@dataclass(frozen=True)
class Package:
    """A pinned version of a package.

    Attributes:
        name: In its normal form.
        version: As pinned; two Pythons or two environments may want two of one package.
        licence: An SPDX expression.
        wanted_by: Names of the extras and environments that it is pinned for.
    """

    name: str
    version: str
    licence: str
    wanted_by: tuple[str, ...]

    @property
    def runs(self) -> bool:
        """Whether it is installed where Gyre runs, and not for development alone."""
        return any(each in RUNS for each in self.wanted_by)


def review() -> dict[str, Any]:
    """Return what `licences.yaml` says."""
    told: dict[str, Any] = yaml.safe_load((HERE / "licences.yaml").read_text())
    return told


def pins() -> dict[tuple[NormalizedName, str], tuple[str, ...]]:
    """Return every pinned name and version with the files that pin it, by their names without `.txt`."""
    found: dict[tuple[NormalizedName, str], list[str]] = {}
    for file in sorted(HERE.glob("*.txt")):
        for name, version in _PIN.findall(file.read_text()):
            found.setdefault((canonicalize_name(name), version), []).append(file.stem)
    return {pin: tuple(files) for pin, files in sorted(found.items())}


def licences_in(expression: str) -> set[str]:
    """Return each licence of an SPDX expression: with its exception, and whether all or only one of them must hold."""
    return {each.strip() for each in re.split(r" AND | OR |[()]", expression)} - {""}


def packages() -> list[Package]:
    """Return everything that is pinned.

    Raises:
        ValueError: Nothing says what the licence of some is; all of them are named.
    """
    known = {name: licence for licence, names in review()["reviewed"].items() for name in names}
    known |= {name: exception["licence"] for name, exception in review()["exceptions"].items()}
    installed = {canonicalize_name(each.name): each for each in _distributions()}
    of_extra = {extra: set(_asked_for_by(extra, installed)) for extra in ("embedded", "demo")}
    found, unknown = [], []
    for (name, version), files in pins().items():
        licence = known.get(name) or (_licence_of(installed[name]) if name in installed else None)
        if licence is None:
            unknown.append(name)
            continue
        wanted = [file for file in files if file != "dev"]
        if "dev" in files:
            wanted += [extra for extra, names in of_extra.items() if name in names]
            wanted += [] if set(wanted) & set(RUNS) else ["dev"]
        found.append(Package(name, version, licence, tuple(wanted)))
    if unknown:
        raise ValueError(f"licences.yaml: say under `reviewed` which licences these have: {', '.join(unknown)}")
    return found


def document(found: Iterable[Package]) -> str:
    """Return the text of docs/dependencies.md."""
    found, told = list(found), review()
    versions = {each.name: each.version for each in found}
    exceptions = [(name, said["licence"], said["because"]) for name, said in told["exceptions"].items()]
    exceptions += [(said["what"], said["licence"], said["because"]) for said in told["beside"] if "because" in said]
    beside = [
        (
            said["what"],
            str(said.get("version") or versions.get(said.get("package"), "")),
            said["licence"],
            said["comes"],
        )
        for said in told["beside"]
    ]
    rows = {each: (each.name, each.version, each.licence, ", ".join(each.wanted_by)) for each in found}
    parts = [
        _HEAD.format(accepted=", ".join(told["accepted"])),
        _table(("licence", "why it is accepted"), told["accepted_because"].items()),
        "Accepted of these alone:",
        _table(("what", "licence", "why it is accepted"), exceptions),
        _RUNS_HEAD,
        _table(("package", "version", "licence", "wanted by"), [row for each, row in rows.items() if each.runs]),
        "## What is no package, or comes inside of one",
        _table(("what", "version", "licence", "comes"), beside),
        _DEVELOPMENT_HEAD,
        _table(("package", "version", "licence", "wanted by"), [row for each, row in rows.items() if not each.runs]),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _distributions() -> Iterator[metadata.Distribution]:
    yield from metadata.distributions(
        path=[str(path) for path in HERE.parent.glob(".venv-*/lib/python*/site-packages")]
    )
    yield from metadata.distributions()


def _licence_of(distribution: metadata.Distribution) -> str | None:
    said = distribution.metadata
    if "License-Expression" in said:
        return canonicalize_license_expression(said["License-Expression"])
    field = said["License"].strip() if "License" in said else ""
    if named := _FIELDS.get(field.lower()):
        return named
    try:
        return canonicalize_license_expression(field)
    except InvalidLicenseExpression:
        pass
    classifiers = [each.rpartition(" :: ")[2] for each in said.get_all("Classifier") or () if "License :: OSI" in each]
    named_by = [_CLASSIFIERS.get(each) for each in classifiers]
    return " AND ".join(each for each in named_by if each) if named_by and all(named_by) else None


def _asked_for_by(extra: str, installed: Mapping[NormalizedName, metadata.Distribution]) -> set[str]:
    """Return the packages that an extra of Gyre asks for, directly or not, on this platform."""
    gyre = canonicalize_name("gyre-flywheel")
    found: set[str] = set()
    waiting = [(gyre, frozenset({extra}))]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        if name not in installed:
            continue
        for asked in map(Requirement, installed[name].requires or ()):
            if not _holds(asked, extras):
                continue
            dependency = canonicalize_name(asked.name)
            found.add(dependency)
            if (entry := (dependency, frozenset(asked.extras))) not in seen:
                seen.add(entry)
                waiting.append(entry)
    return found - {gyre}


def _holds(asked: Requirement, extras: frozenset[str]) -> bool:
    marker = asked.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""})


def _table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    return "\n".join([_line(head), "|" + "---|" * len(head), *map(_line, rows)])


def _line(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(str(cell).strip() for cell in cells)} |"


if __name__ == "__main__":
    try:
        TABLE.write_text(document(packages()))
    except ValueError as error:
        sys.exit(str(error))
