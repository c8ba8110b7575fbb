"""Bundles, models and servers that are not as they should be; servers and Triton are stand-ins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from pydantic import SecretStr
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gyre.api.serving.v1 import serving_pb2, serving_pb2_grpc
from gyre.doctor.installation import Installation
from schemas.bundle import Bundle, load_bundle
from schemas.events import BundlePublished, Deployment
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.kafka import Producer
from services.runtime.settings import UpstreamSettings
from tests.integration.audit.story import story
from tests.integration.doctor.conftest import causes, delete, make, remedy

FOLDER = Path(__file__).parents[3] / "deploy" / "bundle"
SAMPLE = load_bundle(FOLDER)
LIVE = next(event for _, event in story()[1] if isinstance(event, Deployment))


async def publish(at: Installation, content: str, version: str = "v") -> None:
    async with Producer(at.kafka) as producer:
        event = BundlePublished(version=version, published_at=Clock().now(), content=content)
        await producer.send(Topic.BUNDLES, event)


def with_upstream(url: str) -> str:
    content = SAMPLE.model_dump(mode="json")
    content["upstreams"] = {"cloud": {"url": url}}
    content["models"]["far"] = {
        "tier": "large",
        "upstream": "cloud",
        "served_as": "big",
        "max_tokens": 9,
        "region": "eu",
    }
    return Bundle.model_validate(content).model_dump_json()


@pytest.fixture
async def triton() -> AsyncIterator[Callable[..., Any]]:
    """Starts a stand-in for Triton that says which models are ready, and no more; returns its address."""
    servers = []

    async def serve(**loaded: str) -> str:
        class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
            async def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
                model = service_pb2.RepositoryIndexResponse.ModelIndex
                models = [model(name=name, version=version, state="READY") for name, version in loaded.items()]
                return service_pb2.RepositoryIndexResponse(models=models)

        server = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield serve
    for server in servers:
        await server.stop(None)


@pytest.fixture
async def serving(installation: Installation) -> AsyncIterator[Callable[..., Any]]:
    """Gives an installation with a stand-in for serving that says how the deployment is, and that it serves."""
    servers = []

    async def serve(state: str) -> Installation:
        class Servicer(serving_pb2_grpc.ServingServicer):
            async def Status(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
                status = serving_pb2.DeploymentStatus(candidate_id=LIVE.candidate_id, state=state)
                return serving_pb2.StatusResponse(deployments=[status])

        server = grpc.aio.server()
        serving_pb2_grpc.add_ServingServicer_to_server(Servicer(), server)
        healthy = health.aio.HealthServicer()
        await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return replace(installation, services={"serving": f"127.0.0.1:{port}"})

    yield serve
    for server in servers:
        await server.stop(None)


async def test_that_nothing_is_published_is_told_once(installation: Installation, admin: AIOKafkaAdminClient) -> None:
    await delete(admin, Topic.BUNDLES)
    await make(admin, Topic.BUNDLES, installation)
    assert await causes(installation, "bundle-folder", "weights", "upstreams") == {
        "bundle": ["No bundle has been published, so every request is refused."]
    }


async def test_a_bundle_that_cannot_be_read_is_told_with_its_field(installation: Installation) -> None:
    await publish(installation, "{}", "of-old")
    (cause,) = (await causes(installation, "bundle", "weights", "upstreams"))["bundle"]
    assert cause.startswith("The published bundle of-old cannot be used: tenants: ")


async def test_a_bundle_that_differs_from_yours_is_told_with_both_versions(
    installation: Installation, tmp_path: Path
) -> None:
    await publish(installation, SAMPLE.model_dump_json())
    assert await causes(replace(installation, bundle_dir=FOLDER), "bundle-folder") == {}
    await publish(installation, with_upstream("http://127.0.0.1:9/v1"))
    (cause,) = (await causes(replace(installation, bundle_dir=FOLDER), "bundle-folder"))["bundle-folder"]
    assert f"is version {SAMPLE.version}, and " in cause
    (cause,) = (await causes(replace(installation, bundle_dir=tmp_path), "bundle-folder"))["bundle-folder"]
    assert "tenants.yaml is missing" in cause


async def test_a_server_is_told_that_is_away_wants_a_key_refuses_it_fails_or_lacks_the_model(
    installation: Installation, upstream: Callable[..., Any]
) -> None:
    async def told(url: str, **keys: str) -> str:
        await publish(installation, with_upstream(url))
        upstreams = UpstreamSettings(triton_url="", upstream_keys={name: SecretStr(key) for name, key in keys.items()})
        found = await causes(replace(installation, upstreams=upstreams), "upstreams")
        return " ".join(found.get("upstreams", []))

    assert (await told("http://127.0.0.1:9/v1")).startswith(
        "The upstream cloud at http://127.0.0.1:9/v1 does not answer ("
    )
    keyed = await upstream("big", key="secret-1")
    assert await told(keyed) == "The upstream cloud wants a key, and there is none for it in GYRE_UPSTREAM_KEYS."
    assert (
        await told(keyed, cloud="secret-2") == "The upstream cloud refuses the key that GYRE_UPSTREAM_KEYS has for it."
    )
    assert await told(keyed, cloud="secret-1") == ""
    assert "has a key for clod, and the published bundle" in await told(keyed, cloud="secret-1", clod="x")
    assert "lists no big" in await told(await upstream("small"))
    assert (await told(await upstream("big", status=503))).endswith("fails with 503.")


def link(models: Path, folder: Path) -> None:
    for path in models.iterdir():
        (folder / path.name).symlink_to(path)


async def test_weights_that_the_bundle_names_are_told_where_they_are_missing_or_cut_off(
    installation: Installation, models: Path, tmp_path: Path
) -> None:
    await publish(installation, SAMPLE.model_dump_json())
    link(models, tmp_path)
    here = replace(installation, models_dir=tmp_path)
    assert await causes(here, "models", "weights") == {}

    whole = (tmp_path / "base.Q8_0.gguf").read_bytes()
    (tmp_path / "base.Q8_0.gguf").unlink()
    (cause,) = (await causes(here, "models"))["models"]
    assert cause == f"The models' folder is damaged: of {tmp_path}/base.Q8_0.gguf, it is missing."
    assert await remedy(here, "models") == (
        f"Have it made again: rm -r {tmp_path}/base.Q8_0.gguf && python -m embedded.models {tmp_path}."
    )
    (tmp_path / "base.Q8_0.gguf").write_bytes(whole[: len(whole) // 2])
    (cause,) = (await causes(here, "models"))["models"]
    assert f"it has {len(whole) // 2:,} bytes, wanted {len(whole):,}" in cause

    (model,) = {each.weights for each in SAMPLE.models.values() if each.weights}
    assert model == "base.Q8_0.gguf"
    content = SAMPLE.model_dump(mode="json")
    for each in content["models"].values():
        each["weights"] = "other.gguf" if each["weights"] else ""
    await publish(installation, Bundle.model_validate(content).model_dump_json())
    found = await causes(replace(installation, models_dir=models), "weights")
    assert [cause.endswith("other.gguf: it is missing).") for cause in found["weights"]] == [True] * len(
        found["weights"]
    )


async def test_triton_away_is_told_and_so_are_models_that_it_has_not_loaded(
    installation: Installation, triton: Callable[..., Any], serving: Callable[..., Any]
) -> None:
    await publish(installation, SAMPLE.model_dump_json())
    async with Producer(installation.kafka) as producer:
        await producer.send(Topic.DEPLOYMENTS, LIVE)

    async def told(url: str) -> dict[str, list[str]]:
        return await causes(replace(installation, upstreams=UpstreamSettings(triton_url=url)), "loaded")

    assert await told("127.0.0.1:9") == {"triton": ["Triton at 127.0.0.1:9 does not answer."]}
    served = {model.served_as: "1" for model in SAMPLE.models.values()}
    assert await told(await triton(**served, **{LIVE.model: LIVE.model_version})) == {}
    nothing = await triton(**served)
    idle = replace(await serving("idle"), upstreams=UpstreamSettings(triton_url=nothing))
    assert await causes(idle, "loaded") == {}
    live = replace(idle, services={"serving": (await serving("live")).services["serving"]})
    assert len((await causes(live, "loaded"))["loaded"]) == 1

    other = str(int(LIVE.model_version) + 1)
    (cause,) = (await told(await triton(**served, **{LIVE.model: other})))["loaded"]
    assert cause == (
        f"{LIVE.model} version {LIVE.model_version}, the deployment of {LIVE.task_key}, is not loaded in Triton."
    )
    found = (await told(await triton(**{LIVE.model: LIVE.model_version})))["loaded"]
    assert found == [
        f"{model.served_as}, the bundle's model {name}, is not loaded in Triton."
        for name, model in SAMPLE.models.items()
    ]
