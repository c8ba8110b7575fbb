"""What answers need: a published bundle, Triton with its models, and the other servers that the bundle names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
from grpc.aio import AioRpcError

from gyre.api.serving.v1 import serving_pb2, serving_pb2_grpc
from gyre.doctor.checks import Check, Finding, error, warning
from gyre.doctor.clients import newest
from gyre.doctor.installation import Installation
from gyre.doctor.weights import damage
from schemas.bundle import Bundle, InvalidBundleError, load_bundle
from schemas.bundle.models import TRITON
from schemas.events import BundlePublished, Deployment
from schemas.topics import Topic
from services.runtime.bundles import bundle_of
from services.runtime.errors import Rejected, Retryable
from services.runtime.rpc import channel
from services.serving.adapters import TritonServer

SECONDS = 5.0


@dataclass(frozen=True)
class Published:
    """The bundle in force: none, one that cannot be used (with why), or one."""

    bundle: Bundle | None = None
    complaint: str = ""


async def published(at: Installation) -> Published:
    """Return the bundle that was published last."""
    events: list[BundlePublished] = list((await newest(at.kafka, Topic.BUNDLES)).values())
    if not events:
        return Published()
    try:
        return Published(bundle_of(events[-1]))
    except Rejected as failure:
        return Published(complaint=str(failure))


async def _bundle(at: Installation) -> Bundle | None:
    """Return the bundle in force, as checks behind the one of the bundle want it."""
    return (await published(at)).bundle


def judge_bundle(at: Installation, found: Published) -> Iterator[Finding]:
    """Say whether there is a bundle that can be used."""
    push = f"gyre policy push {at.bundle_dir or 'deploy/bundle'}"
    if found.complaint:
        yield error(f"The published {found.complaint}.", f"Mend it for this version and publish it again: {push}.")
    elif found.bundle is None:
        yield error("No bundle has been published, so every request is refused.", f"Publish one: {push}.")


@dataclass(frozen=True)
class Compared:
    """The operator's own bundle beside the published one."""

    published: str
    own: str = ""
    complaint: str = ""


async def _probe_difference(at: Installation) -> Compared | None:
    bundle = await _bundle(at)
    if at.bundle_dir is None or bundle is None:
        return None
    try:
        return Compared(bundle.version, load_bundle(at.bundle_dir).version)
    except InvalidBundleError as failure:
        return Compared(bundle.version, complaint=str(failure))


def judge_difference(at: Installation, found: Compared) -> Iterator[Finding]:
    """Say whether the operator's bundle is the published one."""
    if found.complaint:
        yield warning(
            f"The bundle in {at.bundle_dir} could not be published: {found.complaint}.",
            f"Mend it: gyre policy check {at.bundle_dir}.",
        )
    elif found.own != found.published:
        yield warning(
            f"The bundle in {at.bundle_dir} is version {found.own}, and {found.published} is published.",
            f"Publish it, if it is what you want: gyre policy push {at.bundle_dir}.",
        )


async def _probe_weights(at: Installation) -> dict[str, str] | None:
    bundle = await _bundle(at)
    if at.models_dir is None or bundle is None:
        return None
    wanted = {name: at.models_dir / model.weights for name, model in bundle.models.items() if model.weights}
    return {name: complaint for name, path in wanted.items() if (complaint := _weights_complaint(path))}


def _weights_complaint(path: Path) -> str:
    return f"{path}: {complaint}" if (complaint := damage(path)) else ""


def judge_weights(_at: Installation, found: Mapping[str, str]) -> Iterator[Finding]:
    """Say which models of the bundle have no weights."""
    for name, complaint in found.items():
        yield error(
            f"The bundle's model {name} has no weights that could be loaded ({complaint}).",
            "Put the GGUF file there, or name another in models.yaml and publish it: gyre policy push DIR.",
        )


async def _probe_triton(at: Installation) -> str | None:
    if not at.upstreams.triton_url:
        return None
    try:
        await _loaded(at)
    except Retryable as failure:
        return str(failure)
    return ""


async def _loaded(at: Installation) -> Mapping[str, frozenset[int]]:
    async with TritonServer(at.upstreams.triton_url, SECONDS, parallel=1) as server:
        return await server.loaded()


def judge_triton(at: Installation, why: str) -> Iterator[Finding]:
    """Say that Triton does not answer, if there is a reason."""
    if why:
        yield error(
            f"Triton at {at.upstreams.triton_url} does not answer.",
            "Start it: gyre up."
            if at.is_embedded
            else "Start it, or say where it is: GYRE_TRITON_URL (host:port of its gRPC).",
        )


@dataclass(frozen=True)
class Unloaded:
    """A model that is wanted and not loaded: whose it is, its name in Triton, and which version (0: any)."""

    owner: str
    model: str
    version: int = 0


async def _probe_loaded(at: Installation) -> list[Unloaded] | None:
    if not at.upstreams.triton_url:
        return None
    bundle, loaded = await _bundle(at), await _loaded(at)
    deployments: list[Deployment] = list((await newest(at.kafka, Topic.DEPLOYMENTS)).values())
    idle = await _idle(at)
    wanted = [
        Unloaded(f"the bundle's model {name}", model.served_as)
        for name, model in (bundle.models if bundle is not None else {}).items()
        if model.upstream == TRITON
    ]
    for each in deployments:
        if each.state == "live" and each.model_version.isdecimal() and each.candidate_id not in idle:
            wanted.append(Unloaded(f"the deployment of {each.task_key}", each.model, int(each.model_version)))
    return [
        each
        for each in wanted
        if not (
            loaded.get(each.model, frozenset())
            & ({each.version} if each.version else loaded.get(each.model, frozenset()))
        )
    ]


async def _idle(at: Installation) -> set[str]:
    """Return the candidates that serving has unloaded until somebody asks for them again."""
    if "serving" not in at.services:
        return set()
    try:
        async with channel(at.services["serving"], at.tls) as to:
            stub: Any = serving_pb2_grpc.ServingStub(to)
            answer = await stub.Status(serving_pb2.StatusRequest(), timeout=SECONDS)
    except AioRpcError as failure:
        raise Retryable(f"serving does not say what is live: {failure.details()}") from failure
    return {each.candidate_id for each in answer.deployments if each.state == "idle"}


def judge_loaded(at: Installation, found: Sequence[Unloaded]) -> Iterator[Finding]:
    """Say which models that are wanted are not loaded."""
    logs = "gyre logs serving triton" if at.is_embedded else "the logs of serving and Triton"
    for each in found:
        version = f" version {each.version}" if each.version else ""
        yield error(
            f"{each.model}{version}, {each.owner}, is not loaded in Triton.",
            f"Serving loads what is wanted again and again; why it cannot is in its log: {logs}.",
        )


@dataclass(frozen=True)
class Asked:
    """An OpenAI-compatible server, asked for its models.

    Attributes:
        name: The bundle's, for it; empty: a key is there, and no such server.
        url: Where it is.
        status: What it answered; 0: nothing.
        reason: Why it did not.
        has_key: Whether GYRE_UPSTREAM_KEYS has one for it here.
        lacks: Models of the bundle that it does not list.
    """

    name: str
    url: str
    status: int
    reason: str = ""
    has_key: bool = False
    lacks: tuple[str, ...] = ()


async def _probe_upstreams(at: Installation) -> list[Asked] | None:
    bundle = await _bundle(at)
    if bundle is None:
        return None
    asked = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
        for name, upstream in bundle.upstreams.items():
            if upstream.url is None:
                continue
            wanted = {model.served_as for model in bundle.models.values() if model.upstream == name}
            key = at.upstreams.upstream_keys.get(name)
            asked.append(await _ask(session, name, upstream.url, key.get_secret_value() if key else "", wanted))
    unknown = [name for name in at.upstreams.upstream_keys if name not in bundle.upstreams]
    return asked + [Asked(name, "", 0, has_key=True) for name in unknown]


async def _ask(session: aiohttp.ClientSession, name: str, url: str, key: str, wanted: set[str]) -> Asked:
    asked = Asked(name, url, 0, has_key=bool(key))
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        # A key goes where the bundle says, and nowhere else.
        async with session.get(f"{url}/models", headers=headers, allow_redirects=False) as response:
            asked = replace(asked, status=response.status)
            if response.status == 200:
                listed = {each["id"] for each in (await response.json(content_type=None))["data"]}
                asked = replace(asked, lacks=tuple(sorted(wanted - listed)))
    except TimeoutError:
        asked = replace(asked, reason=f"nothing came within {SECONDS:.0f} s")
    except aiohttp.ClientConnectorError as failure:
        number = failure.os_error.errno or 0
        asked = replace(asked, reason=os.strerror(number) if number > 0 else str(failure.os_error.strerror))
    except aiohttp.ClientError as failure:
        asked = replace(asked, reason=str(failure))
    except (ValueError, LookupError, TypeError):  # it lists its models in another way: it answers
        pass
    return asked


def judge_upstreams(_at: Installation, found: Sequence[Asked]) -> Iterator[Finding]:
    """Say which servers that the bundle names cannot be used."""
    for each in found:
        if not each.url:
            yield warning(
                f"GYRE_UPSTREAM_KEYS has a key for {each.name}, and the published bundle has no such upstream.",
                "Name it as upstreams.yaml does, or take the key out.",
            )
        elif not each.status:
            yield error(
                f"The upstream {each.name} at {each.url} does not answer ({each.reason}).",
                f"See that it runs and can be reached: curl -i {each.url}/models.",
            )
        elif each.status in (401, 403) and not each.has_key:
            yield error(
                f"The upstream {each.name} wants a key, and there is none for it in GYRE_UPSTREAM_KEYS.",
                f"""Give it to the router and the trainer: GYRE_UPSTREAM_KEYS='{{"{each.name}": "..."}}'.""",
            )
        elif each.status in (401, 403):
            yield error(
                f"The upstream {each.name} refuses the key that GYRE_UPSTREAM_KEYS has for it.",
                "Get another from whoever runs it, and restart the router and the trainer with it.",
            )
        elif each.status >= 500:
            yield error(
                f"The upstream {each.name} at {each.url} fails with {each.status}.",
                "Ask whoever runs it; requests go to the other models that are cleared meanwhile.",
            )
        elif each.lacks:
            yield warning(
                f"The upstream {each.name} lists no {', '.join(each.lacks)}, which the bundle's models name.",
                f"Put right served_as in models.yaml; what there is: curl {each.url}/models.",
            )


BUNDLE_CHECKS = [
    Check("bundle", "a bundle is published that can be used", published, judge_bundle, after=("topics",)),
    Check("bundle-folder", "your bundle is the published one", _probe_difference, judge_difference, after=("bundle",)),
    Check("weights", "the bundle's models have weights", _probe_weights, judge_weights, after=("bundle", "models")),
    Check("upstreams", "servers that the bundle names answer", _probe_upstreams, judge_upstreams, after=("bundle",)),
    Check("triton", "Triton answers", _probe_triton, judge_triton),
]
# Behind the services: serving is what loads.
LOADED_CHECKS = [
    Check(
        "loaded",
        "Triton has every model that is wanted",
        _probe_loaded,
        judge_loaded,
        after=("triton", "bundle", "weights", "serving"),
    )
]
