"""An operator's own cases: what a bundle is meant to decide, held to what it decides."""

from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from schemas.bundle import InvalidBundleError, Kind, Name
from schemas.events import Sensitivity
from services.governance import handlers
from services.governance.domain.guardrails import Asked, Screened
from services.runtime.clock import Clock
from services.runtime.errors import InvalidArgument, NotFound


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Expected(_Strict):
    """What is to be decided; what is left out may be anything.

    Attributes:
        verdict: On the text.
        found: Kinds that guardrails find in it; of topics `topic:<name>`.
        text: What a model may see of a request, or the caller of an answer.
        sensitivity: Of the request.
        cleared: Models that may see it, `specialist` among them.
        policies: Policies that allowed or forbade.
    """

    verdict: Literal["pass", "mask", "refuse"] | None = None
    found: tuple[Kind | Annotated[str, Field(pattern="^topic:")], ...] | None = None
    text: str | None = None
    sensitivity: Sensitivity | None = None
    cleared: tuple[Name, ...] | None = None
    policies: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _expects_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError(f"wanted one or more of {', '.join(type(self).model_fields)}")
        return self


class Case(_Strict):
    """One request of an application, or one answer to it.

    Attributes:
        application: Who asks.
        task: What for; empty: the application's first.
        request: What a user says.
        answer: What a model says; instead of `request`.
        knowledge: How sensitive the documents and turns are that context would add.
        expect: What is to be decided.
    """

    application: Name
    task: Name | Literal[""] = ""
    request: str | None = None
    answer: str | None = None
    knowledge: Sensitivity = Sensitivity.PUBLIC
    expect: Expected

    @model_validator(mode="after")
    def _is_of_one_thing(self) -> Self:
        if (self.request is None) == (self.answer is None):
            raise ValueError("wanted either a request or an answer")
        if self.answer is not None and "knowledge" in self.model_fields_set:
            raise ValueError("knowledge: wanted with a request alone")
        return self


class _EachNameOnce(yaml.SafeLoader):
    """Refuses a name that stands there twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(f"{name!r} stands there twice")
        return super().construct_mapping(node, deep)


def load_cases(path: Path) -> dict[str, Case]:
    """Read a file of cases, each under a name that says what it shows.

    Raises:
        InvalidBundleError: It is missing, is not YAML, or holds something that was not wanted.
    """
    try:
        content = yaml.load(path.read_text(), _EachNameOnce)  # noqa: S506 - it is a SafeLoader
    except FileNotFoundError as error:
        raise InvalidBundleError(f"{path} is missing") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidBundleError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict) or not content:
        raise InvalidBundleError(f"{path}: wanted cases, each under a name")
    try:
        return TypeAdapter(dict[str, Case]).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(each) for each in first["loc"] if "[" not in str(each))
        raise InvalidBundleError(f"{path}: {where}: {first['msg']}") from error


def differences(rules: handlers.Rules, case: Case) -> list[str]:
    """Return where a case is decided otherwise than it is expected to be, in sentences; empty when it is not."""
    try:
        decided = _decided(rules, case)
    except (NotFound, InvalidArgument) as error:
        return [str(error)]
    return list(_differences(case.expect, decided))


def _decided(rules: handlers.Rules, case: Case) -> Mapping[str, object]:
    application = rules.bundle.applications.get(case.application)
    task = case.task or (application.tasks[0] if application else "")
    if case.answer is not None:
        asked = Asked((rules.bundle.tasks[task].generic_prompt,)) if task in rules.bundle.tasks else Asked()
        return _of_text(handlers.check_output(rules, case.application, task, case.answer, asked))
    checked = handlers.check_input(rules, case.application, task, [case.request or ""], (), Clock())
    sensitivity = max(checked.sensitivity, case.knowledge, key=lambda level: level.level)
    clearance = next(each for each in checked.clearances if each.sensitivity is sensitivity)
    return {
        **_of_text(checked.screened),
        "sensitivity": sensitivity,
        "cleared": clearance.models,
        "policies": clearance.policies,
    }


def _of_text(screened: Screened) -> dict[str, object]:
    kinds = tuple(finding.kind for finding in screened.findings)
    return {"verdict": screened.verdict.value, "found": kinds, "text": screened.texts[0]}


def _differences(expected: Expected, decided: Mapping[str, object]) -> Iterator[str]:
    for name in expected.model_fields_set:
        wanted = getattr(expected, name)
        if name not in decided:
            yield f"{name}: an answer has none"
        elif isinstance(wanted, tuple):
            found = decided[name]
            assert isinstance(found, tuple)
            if set(wanted) != set(found):
                yield f"{name}: wanted {_listed(wanted)}, is {_listed(found)}"
        elif wanted != decided[name]:
            yield f"{name}: wanted {wanted}, is {decided[name]}"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(sorted(set(names))) or "none"
