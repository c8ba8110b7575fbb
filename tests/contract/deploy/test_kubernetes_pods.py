"""What an operator may rely on of every pod that deploy/kubernetes comes to."""

import importlib
import re

from tests.contract.deploy.rendered import (
    FOLDER,
    OVERLAYS,
    SERVICES,
    Object,
    environment,
    of_kind,
    pods,
    render,
    secrets,
)

HEALTH = {"exec": {"command": ["gyre-health"]}}


def test_every_pod_keeps_to_the_restricted_standard(objects: list[Object]) -> None:
    for pod in pods(objects):
        of_pod = pod.spec["securityContext"]
        assert of_pod["runAsNonRoot"] is True, pod.origin
        assert of_pod["runAsUser"] > 0, pod.origin
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}, pod.origin
        assert not pod.spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}, pod.origin
        for container in pod.containers:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, pod.origin
            assert own["capabilities"] == {"drop": ["ALL"]}, pod.origin
            assert not own.keys() & {"privileged", "runAsUser", "runAsNonRoot", "seccompProfile", "procMount"}
            # An operator writes what it completes where it likes.
            assert own.get("readOnlyRootFilesystem") is True or not pod.is_own, pod.origin


def test_strimzi_is_told_to_keep_its_pods_to_the_restricted_standard(objects: list[Object]) -> None:
    spec = of_kind(objects, "Kafka")["gyre"]["spec"]
    templates = [spec["kafka"]["template"], spec["entityOperator"]["template"]]
    for template in templates:
        assert template["pod"]["securityContext"] == {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        containers = {name: each for name, each in template.items() if name.endswith("Container")}
        assert len(containers) == 2
        for each in containers.values():
            assert each["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_the_namespace_enforces_the_restricted_standard(objects: list[Object]) -> None:
    labels = of_kind(objects, "Namespace")["gyre"]["metadata"]["labels"]
    for mode in ("enforce", "warn", "audit"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
    assert {each["metadata"].get("namespace", "gyre") for each in objects} == {"gyre"}


def test_every_container_says_what_it_needs_and_what_it_may_have(objects: list[Object]) -> None:
    for pod in pods(objects):
        for container in pod.containers:
            for name in ("requests", "limits"):
                wanted = {"cpu", "memory", *(["ephemeral-storage"] if pod.is_own else [])}
                assert wanted <= container["resources"][name].keys(), (pod.origin, name)
    kafka = of_kind(objects, "Kafka")["gyre"]["spec"]["entityOperator"]
    for each in (*of_kind(objects, "KafkaNodePool").values(), kafka["topicOperator"], kafka["userOperator"]):
        resources = each.get("spec", each)["resources"]
        assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory"}


def test_files_in_memory_and_on_the_nodes_disk_have_a_limit_within_the_containers(objects: list[Object]) -> None:
    for pod in pods(objects):
        if pod.is_own:
            on_disk = 0.0
            for volume in pod.spec["volumes"]:
                if "emptyDir" in volume:
                    size = gibibytes(volume["emptyDir"]["sizeLimit"])
                    on_disk += 0 if volume["emptyDir"].get("medium") == "Memory" else size
            limit = sum(gibibytes(each["resources"]["limits"]["ephemeral-storage"]) for each in pod.containers)
            assert on_disk < limit, pod.origin


def gibibytes(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()  # type: ignore[union-attr] # or the test fails
    return int(number) / (1024 if unit == "Mi" else 1)


def test_no_pod_sees_its_node(objects: list[Object]) -> None:
    for pod in pods(objects):
        for volume in pod.spec.get("volumes", ()):
            kinds = volume.keys() - {"name"}
            assert kinds <= {"secret", "projected", "persistentVolumeClaim", "emptyDir"}, (pod.origin, kinds)
        for container in pod.containers:
            assert all("hostPort" not in port for port in container.get("ports", ())), pod.origin


def test_every_probe_of_a_service_asks_it_whether_it_serves(objects: list[Object]) -> None:
    asked = set()
    for pod in pods(objects):
        (container,) = pod.containers
        if pod.part in SERVICES:
            for name in ("startupProbe", "readinessProbe", "livenessProbe"):
                probe = container[name]
                assert HEALTH.items() <= probe.items(), pod.origin
                assert probe["timeoutSeconds"] >= 5  # longer than gyre-health itself waits
            asked.add(pod.part)
        elif pod.part == "triton":
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    assert asked == set(SERVICES)
    # KubeRay and ClickHouse's operator add probes of their own; who runs the `gyre` command is asked by nobody.
    assert {pod.part for pod in pods(objects)} - asked <= {"triton", "ray", "clickhouse", "keeper", "operator"}


def test_a_service_has_time_to_start_and_more_to_stop_than_it_takes(objects: list[Object]) -> None:
    for pod in pods(objects):
        if pod.part in SERVICES:
            (container,) = pod.containers
            startup = container["startupProbe"]
            assert startup["periodSeconds"] * startup["failureThreshold"] >= 1800
            settings_of = importlib.import_module(f"services.{pod.part}.settings").Settings
            default = settings_of.model_fields["drain_seconds"].default
            drain = float(environment(objects, pod).get(f"GYRE_{pod.part.upper()}_DRAIN_SECONDS", default))
            before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            age = settings_of.model_fields["connection_seconds"].default
            assert before > age * 1.1, pod.origin  # gRPC ends a connection up to a tenth later
            # Loops have up to ten seconds beyond the calls (services/triage/consumer.py).
            assert pod.spec["terminationGracePeriodSeconds"] >= before + drain + 10, pod.origin


def test_images_are_named_by_digest_in_production_and_never_latest() -> None:
    for overlay in OVERLAYS:
        for pod in pods(render(f"overlays/{overlay}")):
            for container in pod.containers:
                if overlay == "production":
                    assert re.search(r"[^:]@sha256:[0-9a-f]{64}$", container["image"]), pod.origin
                else:
                    assert container["image"].rsplit(":", 1)[1] != "latest", pod.origin
    for pod in pods(render("base")):  # left to the overlay
        assert all(re.fullmatch(r"[a-z-]+", each["image"]) for each in pod.containers), pod.origin


def test_every_pod_has_an_account_of_its_own_without_rights_or_token(objects: list[Object]) -> None:
    accounts = of_kind(objects, "ServiceAccount")
    for pod in pods(objects):
        assert pod.spec["automountServiceAccountToken"] is False, pod.origin
        assert pod.spec["enableServiceLinks"] is False, pod.origin
        if pod.is_own:
            assert pod.spec["serviceAccountName"] == pod.part, pod.origin
    assert accounts.keys() == {pod.part for pod in pods(objects) if pod.is_own}
    assert all(each["automountServiceAccountToken"] is False for each in accounts.values())
    assert not {each["kind"] for each in objects} & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


def test_every_secret_is_one_that_somebody_makes(objects: list[Object]) -> None:
    made = {each["spec"]["secretName"] for each in of_kind(objects, "Certificate").values()}
    made |= {f"kafka-{name}" for name in of_kind(objects, "KafkaUser")} | {"gyre-cluster-ca-cert"}
    readme = (FOLDER / "README.md").read_text()
    for pod in pods(objects):
        for name in secrets(pod):
            assert name in made or f"create secret generic {name} " in readme, name


def test_every_certificate_is_of_the_part_that_holds_it(objects: list[Object]) -> None:
    certificates = of_kind(objects, "Certificate")
    held = {}
    for pod in pods(objects):
        for name in secrets(pod):
            if name.startswith("tls-"):
                held[pod.part] = name
    assert held.keys() == {*SERVICES, "triton", "clickhouse", "operator"}
    for part, name in held.items():
        certificate = certificates[part]["spec"]
        assert certificate["secretName"] == name
        assert certificate["issuerRef"]["name"] == "gyre"
        if part != "clickhouse":  # known by the names that its operator gives its services
            assert {each.partition(".")[0] for each in certificate["dnsNames"]} == {part}
            # gyre-health asks for this name.
            assert certificate["dnsNames"][0] == part
