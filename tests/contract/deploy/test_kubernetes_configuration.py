"""What deploy/kubernetes tells services is what they read, and whom it names is there."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from pydantic_settings import BaseSettings

from embedded.settings import PORTS
from gyre.cli.kafka import acls
from schemas.topics import SPECS
from services.runtime import settings
from tests.contract.deploy.rendered import (
    FOLDER,
    PART,
    ROOT,
    SERVICES,
    Object,
    configuration,
    environment,
    of_kind,
    pods,
)

# Read by all settings, and the field of none: where their secrets lie.
OF_ALL = {settings.SECRETS_DIR}
# Files and folders of a pod, and what wants them, which are not there.
OF_PODS = {*OF_ALL, "GYRE_KAFKA_CA_FILE", "GYRE_KAFKA_SECURITY_PROTOCOL", "GYRE_KAFKA_USER"}


def variables(part: str) -> set[str]:
    """The variables that a part of Gyre reads, by its settings classes."""
    classes: list[type[BaseSettings]] = [settings.KafkaSettings, settings.TelemetrySettings, settings.TlsSettings]
    if part == "operator":
        classes.append(settings.ClickHouseSettings)
    else:
        classes.append(importlib.import_module(f"services.{part}.settings").Settings)
        wiring = (ROOT / "services" / part / "bootstrap.py").read_text()
        classes += [getattr(settings, name) for name in set(re.findall(r"\b(\w+Settings)\(\)", wiring))]
    return OF_ALL | {
        field.validation_alias
        if isinstance(field.validation_alias, str)
        else f"{each.model_config['env_prefix']}{name}".upper()
        for each in classes
        for name, field in each.model_fields.items()
    }


def test_every_variable_is_one_that_its_service_reads(objects: list[Object]) -> None:
    for pod in pods(objects):
        if pod.part in SERVICES:
            assert environment(objects, pod).keys() <= variables(pod.part), pod.origin


def test_a_secret_that_is_a_file_is_named_like_the_variable_it_stands_for(objects: list[Object]) -> None:
    for pod in pods(objects):
        for volume in pod.spec.get("volumes", ()):
            for source in volume.get("projected", {}).get("sources", ()):
                for item in source["secret"].get("items", ()):
                    assert item["path"] in variables(pod.part), pod.origin


def test_what_the_operators_pod_is_told_is_read_by_the_command(objects: list[Object]) -> None:
    code = "".join(path.read_text() for path in (ROOT / "gyre" / "cli").glob("*.py"))
    (pod,) = (each for each in pods(objects) if each.part == "operator")
    for variable in environment(objects, pod).keys() - {"HOME"}:
        assert variable in variables("operator") or variable in code, variable


def test_what_is_configured_is_what_settings_accept(objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> None:
    for pod in pods(objects):
        if pod.part in SERVICES:
            for variable, value in environment(objects, pod).items():
                if variable not in OF_PODS:
                    monkeypatch.setenv(variable, value)
            importlib.import_module(f"services.{pod.part}.settings").Settings()
            monkeypatch.undo()


def test_every_port_is_the_services_default(objects: list[Object]) -> None:
    for pod in pods(objects):
        if pod.part in SERVICES:
            prefix = f"GYRE_{pod.part.upper()}_"
            wanted = {
                name.removeprefix(prefix).removesuffix("_PORT").lower(): port.default
                for name, port in PORTS.items()
                if name.startswith(prefix)
            }
            (container,) = pod.containers
            assert {each["name"]: each["containerPort"] for each in container["ports"]} == wanted
            told = {
                name.removeprefix(prefix).removesuffix("_PORT").lower(): int(value)
                for name, value in environment(objects, pod).items()
                if name.startswith(prefix) and name.endswith("_PORT")
            }
            assert told == wanted
            for each in of_kind(objects, "Service")[pod.part]["spec"]["ports"]:
                assert (each["port"], each["targetPort"]) == (wanted[each["name"]], each["name"])


def test_who_is_asked_is_there(objects: list[Object]) -> None:
    services = of_kind(objects, "Service")
    for pod in pods(objects):
        for variable, value in environment(objects, pod).items():
            if variable.endswith("_TARGET") or variable == "GYRE_TRITON_URL":
                name, _, port = value.rpartition(":")
                assert int(port) in [each["port"] for each in services[name]["spec"]["ports"]], variable
            if variable == "GYRE_KAFKA_BOOTSTRAP_SERVERS":
                ports = [each["port"] for each in of_kind(objects, "Kafka")["gyre"]["spec"]["kafka"]["listeners"]]
                assert value == f"gyre-kafka-bootstrap:{ports[0]}"
            if variable == "GYRE_CLICKHOUSE_URL":
                names = of_kind(objects, "Certificate")["clickhouse"]["spec"]["dnsNames"]
                assert value.removeprefix("https://").removesuffix(":8443") in names
            if variable == "GYRE_KAFKA_USER":
                assert value == pod.part
                assert value in of_kind(objects, "KafkaUser")


def test_every_volume_is_there_and_every_mount_is_of_one(objects: list[Object]) -> None:
    claims = of_kind(objects, "PersistentVolumeClaim")
    templates = {
        each["spec"]["template"]["metadata"]["labels"][PART]: each["spec"].get("volumeClaimTemplates", [])
        for each in of_kind(objects, "StatefulSet").values()
    }
    for pod in pods(objects):
        names = {each["metadata"]["name"] for each in templates.get(pod.part, [])}
        for volume in pod.spec.get("volumes", ()):
            names.add(volume["name"])
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
        for container in pod.containers:
            assert {each["name"] for each in container.get("volumeMounts", ())} <= names, pod.origin


def test_kafkas_topics_are_those_of_the_schemas(objects: list[Object], overlay: str) -> None:
    made = subprocess.run([sys.executable, FOLDER / "topics.py"], capture_output=True, text=True, check=True).stdout
    there = (FOLDER / "base/kafka/topics.yaml").read_text()
    assert made == there, "make it anew: python deploy/kubernetes/topics.py > deploy/kubernetes/base/kafka/topics.yaml"
    topics = of_kind(objects, "KafkaTopic")
    assert topics.keys() == {*map(str, SPECS), *(topic.dead_letters for topic in SPECS)}
    told = configuration(objects)
    for name, each in topics.items():
        assert each["spec"]["replicas"] == int(told["GYRE_KAFKA_REPLICATION_FACTOR"])
        is_partitioned = any(spec.partitioned for topic, spec in SPECS.items() if name == topic)
        assert each["spec"]["partitions"] == (int(told["GYRE_KAFKA_PARTITIONS"]) if is_partitioned else 1)
    brokers = sum(
        each["spec"]["replicas"]
        for each in of_kind(objects, "KafkaNodePool").values()
        if "broker" in each["spec"]["roles"]
    )
    kafka = of_kind(objects, "Kafka")["gyre"]["spec"]["kafka"]["config"]
    assert brokers >= int(told["GYRE_KAFKA_REPLICATION_FACTOR"]) == kafka["default.replication.factor"]
    assert overlay == "laptop" or kafka["min.insync.replicas"] == 2


def test_kafkas_users_may_do_what_is_their_work_and_nothing_else(objects: list[Object]) -> None:
    result = CliRunner().invoke(acls, ["--format", "strimzi"])
    assert result.exit_code == 0
    made = {each["metadata"]["name"]: each["spec"] for each in yaml.safe_load_all(result.stdout)}
    there = {name: each["spec"] for name, each in of_kind(objects, "KafkaUser").items()}
    assert made == there, "gyre kafka acls --format strimzi makes deploy/kubernetes/base/kafka/users.yaml anew"
    assert there.keys() == {*SERVICES, "operator"}
    assert of_kind(objects, "Kafka")["gyre"]["spec"]["kafka"]["authorization"] == {"type": "simple"}


def test_clickhouses_files_are_those_of_compose(objects: list[Object]) -> None:
    files = of_kind(objects, "ClickHouseInstallation")["gyre"]["spec"]["configuration"]["files"]
    for name in ("config.d/gyre.xml", *(f"users.d/{user}.xml" for user in ("analyst", "audit", "triage"))):
        assert files[name] == (ROOT / "deploy" / "clickhouse" / name.partition("/")[2]).read_text()
    assert "ConfigMap/clickhouse-files" not in {f"{each['kind']}/{each['metadata']['name']}" for each in objects}


def test_replicas_of_clickhouse_share_a_database_and_one_has_no_need_to(objects: list[Object], overlay: str) -> None:
    configuration = of_kind(objects, "ClickHouseInstallation")["gyre"]["spec"]["configuration"]
    replicas = configuration["clusters"][0]["layout"]["replicasCount"]
    assert (replicas > 1) == ("config.d/replicated.xml" in configuration["files"]) == ("zookeeper" in configuration)
    if replicas > 1:
        assert "ENGINE = Replicated(" in configuration["files"]["config.d/replicated.xml"]
        assert "ClickHouseKeeperInstallation" in {each["kind"] for each in objects}


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_file_is_part_of_something(path: Path) -> None:
    named = set()
    for kustomization in FOLDER.rglob("kustomization.yaml"):
        content = yaml.safe_load(kustomization.read_text())
        patches = [each["path"] for each in content.get("patches", ()) if "path" in each]
        named |= {kustomization, *(kustomization.parent / each for each in (*content["resources"], *patches))}
    assert path in {each.resolve() for each in named}
