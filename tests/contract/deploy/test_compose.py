"""docker-compose.yml is what Compose accepts, what the services read, and as closed as it says. No container is run."""

import importlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from pydantic import SecretStr
from pydantic_settings import BaseSettings

ROOT = Path(__file__).parents[3]
FILES = ["docker-compose.yml", "docker-compose.gpu.yml"]
SERVICES = ["router", "governance", "context", "audit", "triage", "trainer", "serving"]
COMPOSE, GPU = (yaml.safe_load((ROOT / name).read_text()) for name in FILES)
PARTS: dict[str, Any] = COMPOSE["services"] | {"vllm": GPU["services"]["vllm"]}
FILLED = {"GYRE_TRITON_IMAGE": "tritonserver", "GYRE_TRITON_VLLM_IMAGE": "vllm", "GYRE_GPU_EXPORT": "./export"}
# What is made before the first start.
MADE = ("./models", "./certificates/", "./secrets/")
# Where certificates and secrets are, which is no setting of one service, and what OpenTelemetry's SDK reads.
EVERYWHERE = {"GYRE_TLS_DIR", "GYRE_SECRETS_DIR", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"}


def _config(environment: dict[str, str], *files: str) -> subprocess.CompletedProcess[str]:
    client = shutil.which("docker")
    if client is None or subprocess.run([client, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("there is no Docker client with compose on this machine")
    profiles = [f"--profile={profile}" for part in PARTS.values() for profile in part.get("profiles", ())]
    return subprocess.run(
        [client, "compose", *(f"--file={name}" for name in files), *profiles, "config", "--quiet"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("files", [FILES[:1], FILES])
def test_the_docker_client_accepts_it(files: list[str]) -> None:
    result = _config(FILLED, *files)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("variable", sorted(FILLED))
def test_it_refuses_to_start_without_what_nobody_else_can_know(variable: str) -> None:
    result = _config({name: value for name, value in FILLED.items() if name != variable}, *FILES)
    assert result.returncode != 0
    assert variable in result.stderr


@pytest.mark.parametrize("name", FILES)
def test_it_is_what_the_compose_specification_says(name: str) -> None:
    validator = jsonschema_rs.validator_for(json.loads((Path(__file__).parent / "compose-spec.json").read_text()))
    found = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(_yaml(name))]
    assert found == []
    broken = _yaml(name)
    broken["services"]["vllm" if "gpu" in name else "kafka"]["helthcheck"] = {}
    assert not validator.is_valid(broken)


def _yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_an_image_of_its_own_extra(service: str) -> None:
    assert PARTS[service]["build"]["args"] == {"SERVICE": service}
    pins = (ROOT / "requirements" / f"{service}.txt").read_text()
    assert ("\ntorch==" in pins) == (service == "trainer")


def test_images_are_pinned() -> None:
    images = [part["image"] for part in PARTS.values() if "image" in part]
    images += re.findall(
        r"^(?:FROM|ARG \w+=)\s*([a-z][^$\s]*:\S+)",
        "".join((ROOT / "deploy/containers" / name).read_text() for name in ("Dockerfile", "ray.Dockerfile")),
        re.MULTILINE,
    )
    pinned = [image for image in images if not image.startswith("${")]
    assert len(pinned) == 8
    for image in pinned:
        assert re.search(r":v?\d+\.\d+", image), image


@pytest.mark.parametrize("name", PARTS)
def test_each_part_says_how_it_is_known_to_work_and_has_its_limits(name: str) -> None:
    part = PARTS[name]
    if name in SERVICES:
        assert "HEALTHCHECK" in (ROOT / part["build"]["dockerfile"]).read_text()
    else:
        assert part["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert part["healthcheck"]["start_period"]
    assert {"memory", "cpus"} <= part["deploy"]["resources"]["limits"].keys()
    assert part["restart"] == "unless-stopped"
    assert part["logging"]["options"].keys() == {"max-size", "max-file"}
    assert "no-new-privileges:true" in part["security_opt"]


@pytest.mark.parametrize("name", [*SERVICES, "triton", "prometheus", "jaeger", "grafana"])
def test_what_faces_others_writes_to_its_volumes_alone_and_has_no_privileges(name: str) -> None:
    assert PARTS[name]["read_only"] is True
    assert PARTS[name]["cap_drop"] == ["ALL"]


def test_our_images_and_triton_run_as_a_user() -> None:
    assert re.search(r"^USER gyre$", (ROOT / "deploy/containers/Dockerfile").read_text(), re.MULTILINE)
    assert PARTS["triton"]["user"] == "10001:10001"


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_started_once_what_it_needs_is_healthy(name: str) -> None:
    for needed, how in PARTS[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        # What has no profile is always there.
        assert PARTS[needed].get("profiles") in (None, PARTS[name].get("profiles")), (name, needed)


def test_everything_starts_in_some_order() -> None:
    started: set[str] = set()
    while len(started) < len(PARTS):
        ready = {
            name for name, part in PARTS.items() if name not in started and {*part.get("depends_on", ())} <= started
        }
        assert ready, f"wait for one another: {PARTS.keys() - started}"
        started |= ready


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_and_secret_is_one_that_a_service_reads(service: str) -> None:
    code = "".join(path.read_text() for path in (ROOT / "services").rglob("*.py"))
    variables = {*PARTS[service]["environment"], *GPU["services"].get(service, {}).get("environment", ())}
    for variable in (variables | {name.upper() for name in _secrets(service)}) - EVERYWHERE:
        prefix, name = next(
            (prefix, variable.removeprefix(prefix))
            for prefix in (f"GYRE_{service.upper()}_", "GYRE_KAFKA_", "GYRE_CLICKHOUSE_", "GYRE_TELEMETRY_", "GYRE_")
            if variable.startswith(prefix)
        )
        assert variable in code or (f'"{prefix}"' in code and f"{name.lower()}:" in code), variable


def _secrets(service: str) -> list[str]:
    """The names that a service's secrets have in its container."""
    return [each if isinstance(each, str) else each["target"] for each in PARTS[service].get("secrets", ())]


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_secret_is_a_file_and_no_variable(service: str) -> None:
    secret = _secret_variables("services.runtime.settings") | _secret_variables(f"services.{service}.settings")
    environment = PARTS[service]["environment"]
    assert not secret & environment.keys()
    assert {name.upper() for name in _secrets(service)} <= secret
    assert ("GYRE_SECRETS_DIR" in environment) == bool(_secrets(service))


def _secret_variables(module: str) -> set[str]:
    return {
        f"{kind.model_config['env_prefix']}{name.upper()}"
        for kind in vars(importlib.import_module(module)).values()
        if isinstance(kind, type) and issubclass(kind, BaseSettings) and kind.model_config.get("env_prefix")
        for name, field in kind.model_fields.items()
        if SecretStr in (field.annotation, *getattr(field.annotation, "__args__", ()))
    }


def test_the_script_makes_every_secret_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    keygen = tmp_path / "gyre"
    keygen.write_text('#!/bin/sh\n[ "$1 $2" = "audit keygen" ] && echo a-key > "$3"\n')
    keygen.chmod(0o755)

    def made() -> dict[str, str]:
        script = ["sh", str(ROOT / "deploy/containers/secrets.sh"), str(folder)]
        subprocess.run(script, env={"PATH": os.environ["PATH"], "GYRE": str(keygen)}, check=True)
        return {path.name: path.read_text() for path in folder.iterdir()}

    first = made()
    assert {f"./secrets/{name}" for name in first} == {secret["file"] for secret in COMPOSE["secrets"].values()}
    assert made() == first
    assert folder.stat().st_mode & 0o777 == 0o700
    # Containers read them as users of their own.
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert len(first["gyre_triage_lease_secret"]) == 64
    assert len({first[name] for name in first if name.endswith(("_password", "_secret")) and first[name]}) == 6
    assert json.loads(first["gyre_upstream_keys"]) == {}


@pytest.mark.parametrize("name", PARTS)
def test_every_secret_that_is_mounted_is_one_that_is_made(name: str) -> None:
    for secret in PARTS[name].get("secrets", ()):
        source = secret if isinstance(secret, str) else secret["source"]
        assert COMPOSE["secrets"][source] == {"file": f"./secrets/{source}"}


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_a_certificate_of_its_own_and_no_other_s(service: str) -> None:
    mounted = [volume for volume in PARTS[service]["volumes"] if "certificates" in volume]
    assert mounted == [f"./certificates/{service}:/run/tls:ro"]
    assert PARTS[service]["environment"]["GYRE_TLS_DIR"] == "/run/tls"


def test_every_file_that_is_mounted_is_there() -> None:
    for part in PARTS.values():
        for volume in part.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./") and not source.startswith(MADE):
                assert (ROOT / source).exists(), volume


def test_every_variable_has_its_sentence_in_the_example_and_none_is_left_from_before() -> None:
    read = {variable for name in FILES for variable in re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / name).read_text())}
    described = re.findall(r"^# ([A-Z][^\n]+[.:])\n([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    written = re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert [variable for _, variable in described] == written
    assert {*written} - {"COMPOSE_PROFILES"} == read


def test_prometheus_scrapes_each_service_where_it_shows_its_metrics() -> None:
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    scraped = {
        static["labels"]["service"]: (job.get("scheme"), static["targets"])
        for job in jobs
        for static in job["static_configs"]
    }
    for service in SERVICES:
        port = PARTS[service]["environment"][f"GYRE_{service.upper()}_METRICS_PORT"]
        assert scraped.pop(service) == ("https", [f"{service}:{port}"])
    assert scraped == {"triton": (None, ["triton:8002"])}


def test_spans_are_taken_where_the_example_has_them_sent() -> None:
    jaeger = yaml.safe_load((ROOT / "deploy/jaeger/jaeger.yaml").read_text())
    port = jaeger["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].split(":")[1]
    assert f"\nGYRE_TELEMETRY_OTLP_ENDPOINT=jaeger:{port}\n" in (ROOT / ".env.example").read_text()
