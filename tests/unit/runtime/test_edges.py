"""The table of who may ask whom holds everything that is asked, and documents say the same."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from embedded.settings import PORTS
from embedded.settings import SERVICES as EMBEDDED_SERVICES
from services.runtime import edges
from services.runtime.settings import ServiceSettings
from tests.contract.deploy.edges import EDGES as POLICIES

ROOT = Path(__file__).parents[3]


def _ports() -> set[tuple[str, str]]:
    """Service and kind of every port that a service of ours listens on."""
    return {
        (port.part, variable.removeprefix(f"GYRE_{port.part.upper()}_").removesuffix("_PORT").lower())
        for variable, port in PORTS.items()
        if port.part in EMBEDDED_SERVICES
    }


def test_every_port_is_public_or_has_callers_and_no_other_port_has() -> None:
    asked = {(edge.callee, edge.port) for edge in edges.EDGES if edge.callee not in edges.OTHERS}
    assert asked | set(edges.PUBLIC) == _ports()
    assert not asked & set(edges.PUBLIC)


def test_nobody_may_ask_on_a_port_that_nothing_is_said_about() -> None:
    assert edges.callers("governance", "admin") == frozenset()
    assert edges.callers("", "grpc") == frozenset()
    assert not edges.is_public("", "grpc")


def test_prometheus_scrapes_everybody_and_asks_nothing_else() -> None:
    assert {edge.port for edge in edges.EDGES if edge.caller == edges.PROMETHEUS} == {"metrics"}
    for service in edges.SERVICES:
        assert edges.callers(service, "metrics") == {edges.PROMETHEUS}


@pytest.mark.parametrize("service", edges.SERVICES)
def test_a_service_asks_those_whose_address_it_has_and_no_others(service: str) -> None:
    settings = importlib.import_module(f"services.{service}.settings").Settings
    assert issubclass(settings, ServiceSettings)  # which holds the hosts that it listens on to TLS
    code = "".join(path.read_text() for path in (ROOT / "services" / service).rglob("*.py"))
    has = {field.removesuffix("_target") for field in settings.model_fields if field.endswith("_target")}
    has |= {"clickhouse"} if "ClickHouseSettings()" in code else set()
    has |= {"triton"} if "UpstreamSettings()" in code or "triton_url" in settings.model_fields else set()
    has |= {"ray"} if "ray_address" in settings.model_fields else set()
    has |= {"kafka"} if "KafkaSettings()" in code else set()
    asks = {edge.callee for edge in edges.EDGES if edge.caller == service and edge.callee != service}
    assert asks - {"collector"} == has


@pytest.mark.parametrize("service", edges.SERVICES)
def test_no_service_opens_a_channel_without_saying_how_networks_are_crossed(service: str) -> None:
    """A channel that is told nothing speaks in the clear."""
    of_tls = {"ExchangeChannel": 2, "channel": 2, "ModelServers": 2, "TritonServer": 4, "Console": 6}
    tree = ast.parse((ROOT / "services" / service / "bootstrap.py").read_text())
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name in of_tls:
            assert len(call.args) == of_tls[name], f"{name} in line {call.lineno}"


def test_the_document_names_every_edge_between_those_who_have_certificates() -> None:
    text = (ROOT / "docs/security.md").read_text()
    rows = set(re.findall(r"^\| `(\w+)` \| (\w+) \| (.+?) \|", text, re.M))
    told = {(callee, port, caller) for callee, port, who in rows for caller in re.findall(r"`(\w+)`", who)}
    assert told == {(edge.callee, edge.port, edge.caller) for edge in edges.EDGES if edge.callee not in edges.OTHERS}
    public = {(callee, port) for callee, port, who in rows if "anybody" in who}
    assert public == set(edges.PUBLIC)


def test_network_policies_are_held_to_the_same_table() -> None:
    let_through = {(caller, callee) for caller, callee, _ in POLICIES}
    assert {(edge.caller, edge.callee) for edge in edges.EDGES if edge.caller != edge.callee} <= let_through
    to_services = {each for each in let_through if each[1] in edges.SERVICES and each[0] != "clients"}
    assert to_services <= {(edge.caller, edge.callee) for edge in edges.EDGES}
