"""Everything that deploy/kubernetes comes to is what Kubernetes' newest releases and the operators accept."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.contract.deploy.rendered import Object, everything, pods

CRDS = Path(__file__).parent / "crds"
RELEASES = list(dict.fromkeys(kubernetes_validate.utils.all_versions()))[-3:]


@pytest.fixture(autouse=True)
def _each_schema_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", read)


read = cache(kubernetes_validate.utils.schema_contents)


@cache
def custom() -> dict[tuple[str, str], Any]:
    """What checks the operators' kinds, by apiVersion and kind."""
    found = {}
    for path in CRDS.glob("*.yaml"):
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            kind = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
            found[kind] = jsonschema.Draft202012Validator(schema)
    return found


def strict(node: Any) -> Any:
    """A schema that refuses fields which it does not know, as an API server does with strict validation."""
    if isinstance(node, list):
        return [strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    result = {name: strict(each) for name, each in node.items()}
    if node.get("type") == "object" and "properties" in node and "additionalProperties" not in node:
        result["additionalProperties"] = bool(node.get("x-kubernetes-preserve-unknown-fields"))
    return result


def problems(objects: list[Object]) -> Iterator[str]:
    """What the operators would refuse."""
    for each in objects:
        if (validator := custom().get((each["apiVersion"], each["kind"]))) is not None:
            for error in validator.iter_errors(each):
                yield f"{each['kind']}/{each['metadata']['name']}: {error.json_path}: {error.message}"


def test_three_releases_of_kubernetes_are_looked_at() -> None:
    numbers = [[int(part) for part in release.split(".")] for release in RELEASES]
    assert len(numbers) == 3
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("release", RELEASES)
def test_every_object_of_kubernetes_own_is_what_its_release_accepts(objects: list[Object], release: str) -> None:
    for each in objects:
        if (each["apiVersion"], each["kind"]) not in custom():
            kubernetes_validate.validate(each, release, strict=True)


def test_every_object_of_an_operator_is_what_the_operator_accepts(objects: list[Object]) -> None:
    assert list(problems(objects)) == []


@pytest.mark.parametrize("release", RELEASES)
def test_every_pod_within_an_operators_object_is_what_kubernetes_accepts(objects: list[Object], release: str) -> None:
    for pod in pods([each for each in objects if each["kind"] not in {"Deployment", "StatefulSet"}]):
        template = {"metadata": {"labels": pod.labels}, "spec": pod.spec}
        resource = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "any"}, "template": template}
        kubernetes_validate.validate(resource, release, strict=True)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Kafka", "spec.kafka.listeners.0.tsl", True),
        ("KafkaTopic", "spec.partitions", "twelve"),
        ("KafkaNodePool", "spec.roles.0", "boss"),
        ("ScaledObject", "spec.maxReplicas", 3),
        ("Certificate", "spec.dnsName", "router"),
        ("Issuer", "spec.selfsigned", {}),
        ("RayCluster", "spec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("ClickHouseInstallation", "spec.configuration.clusters.0.replicas", 3),
        ("ClickHouseKeeperInstallation", "spec.configuration.clusters.0.layout.replicasCount", "3"),
        ("PodMonitor", "spec.podMetricsEndpoints.0.tlsConfig.serverNames", "router"),
    ],
)
def test_what_an_operator_would_refuse_is_found(kind: str, path: str, value: object) -> None:
    one = deepcopy(next(each for each in everything("production") if each["kind"] == kind))
    assert list(problems([one])) == []
    *parents, last = path.split(".")
    at: Any = one
    for parent in parents:
        at = at[int(parent)] if parent.isdecimal() else at[parent]
    at[int(last) if last.isdecimal() else last] = value
    assert len(list(problems([one]))) == 1


def test_what_kubernetes_would_refuse_is_found() -> None:
    one = deepcopy(next(each for each in everything("production") if each["kind"] == "Deployment"))
    one["spec"]["template"]["spec"]["containers"][0]["securityContexts"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, RELEASES[-1], strict=True)
