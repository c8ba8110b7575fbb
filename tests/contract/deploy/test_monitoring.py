"""What dashboards and alerts ask Prometheus for is what services tell it, and each alert says what to do."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from gyre.cli import main
from services.runtime import telemetry

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARDS = {
    path.stem: json.loads(path.read_text())
    for path in sorted((ROOT / "deploy/grafana/dashboards/prometheus").glob("*.json"))
}
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
}
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", (ROOT / "docs/runbooks.md").read_text(), re.M | re.S))
CODE = "".join(path.read_text() for folder in ("services", "schemas") for path in (ROOT / folder).rglob("*.py"))
# What Prometheus itself says of every series: by deploy/prometheus/prometheus.yml, and in Kubernetes.
SCRAPED = frozenset({"job", "instance", "service", "namespace", "pod"})
# What the client of Prometheus tells of a process, and Prometheus of who is scraped.
NOT_OURS = frozenset({"up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"})


def _series() -> dict[str, frozenset[str]]:
    """The series that services show, each with its labels."""
    series = dict.fromkeys(NOT_OURS, SCRAPED)
    for metric in vars(telemetry).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            labels = SCRAPED | frozenset(metric._labelnames)
            if isinstance(metric, Histogram):
                series[f"{family.name}_bucket"] = labels | {"le"}
                series[f"{family.name}_sum"] = series[f"{family.name}_count"] = labels
            else:
                assert isinstance(metric, Counter | Gauge)
                series[f"{family.name}_total" if isinstance(metric, Counter) else family.name] = labels
    return series


SERIES = _series()


def _panels() -> list[Any]:
    return [
        pytest.param(target["expr"], target["legendFormat"], id=f"{name}: {panel['title']}")
        for name, dashboard in DASHBOARDS.items()
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


def _parsed(expression: str) -> Any:
    return promql_parser.parse(expression.replace("$__rate_interval", "1m").replace("$service", ".*"))


def _within(node: Any) -> Iterator[Any]:
    """Yield a part of a query and all parts of it."""
    yield node
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        inner = getattr(node, name, None)
        if inner is not None and not isinstance(inner, str):
            yield from _within(inner)
    for argument in getattr(node, "args", ()):
        yield from _within(argument)


def _selectors(node: Any) -> list[Any]:
    found = {str(each): each for each in _within(node) if isinstance(each, promql_parser.VectorSelector)}
    return list(found.values())


def _labels(node: Any) -> frozenset[str]:
    """The labels that a part of a query has: of those that were asked for, or of what it is made of."""
    if isinstance(node, promql_parser.AggregateExpr):
        return frozenset(node.modifier.labels) if node.modifier is not None else frozenset()
    if isinstance(node, promql_parser.VectorSelector):
        return SERIES[node.name]
    inner = [
        getattr(node, name) for name in ("lhs", "expr", "vector_selector") if getattr(node, name, None) is not None
    ] or list(getattr(node, "args", ()))
    labels = frozenset[str]().union(*(_labels(each) for each in inner if not isinstance(each, str)))
    return (
        labels - {"le"} if isinstance(node, promql_parser.Call) and node.func.name == "histogram_quantile" else labels
    )


def _check(expression: str) -> frozenset[str]:
    """Hold a query to what services tell, and return the labels of its answer."""
    parsed = _parsed(expression)
    selectors = _selectors(parsed)
    assert selectors
    for selector in selectors:
        assert selector.name in SERIES, f"nobody tells {selector.name}"
        for matcher in selector.matchers.matchers:
            assert matcher.name in SERIES[selector.name], f"{selector.name} has no {matcher.name}"
            # A value that is asked for by its name is one that is told.
            if matcher.op == promql_parser.MatchOp.Equal and matcher.name not in SCRAPED and matcher.value:
                assert f'"{matcher.value}"' in CODE, f"nobody says {matcher.name}={matcher.value}"
    for part in _within(parsed):
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            assert {*part.modifier.labels} <= _labels(part.expr), f"{expression}: {part.modifier.labels}"
    return _labels(parsed)


@pytest.mark.parametrize(("expression", "legend"), _panels())
def test_a_panel_asks_for_what_services_tell(expression: str, legend: str) -> None:
    assert {*re.findall(r"\{\{(\w+)\}\}", legend)} <= _check(expression)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_asks_for_what_services_tell(name: str) -> None:
    alert = ALERTS[name]
    labels = _check(alert["expr"])
    assert {*re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"])} <= labels
    assert alert["labels"]["severity"] in ("page", "ticket")


def test_what_kubernetes_scales_by_is_what_services_tell() -> None:
    files = "".join(path.read_text() for path in (ROOT / "deploy/kubernetes").rglob("*.yaml"))
    queries = re.findall(r"^ +query: (.+)$", files, re.MULTILINE)
    assert queries
    for query in queries:
        _check(query)


@pytest.mark.parametrize(
    "expression",
    [
        "gyre_requests_totl",
        'gyre_requests_total{route="/v1"}',
        'gyre_records_total{outcome="dead"}',
        "sum by (task) (gyre_rpc_seconds_count)",
        "histogram_quantile(0.5, sum by (le) (rate(gyre_rpc_seconds_count[1m])))",
    ],
)
def test_a_query_for_what_nobody_tells_is_found(expression: str) -> None:
    with pytest.raises(AssertionError):
        _check(expression)


def test_every_metric_is_shown_somewhere() -> None:
    asked = {
        selector.name
        for expression in [*(each.values[0] for each in _panels()), *(alert["expr"] for alert in ALERTS.values())]
        for selector in _selectors(_parsed(expression))
    }
    suffixes = re.compile(r"_(bucket|sum|count)$")
    assert {suffixes.sub("", name) for name in SERIES} == {suffixes.sub("", name) for name in asked}


def test_every_panel_asks_the_datasource_that_is_provisioned() -> None:
    datasources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yaml").read_text())
    (wanted,) = (
        {"type": each["type"], "uid": each["uid"]} for each in datasources["datasources"] if each["uid"] == "prometheus"
    )
    assert DASHBOARDS.keys() == {"services", "flow", "models"}
    for dashboard in DASHBOARDS.values():
        for panel in dashboard["panels"]:
            asked = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert asked == [wanted] * len(asked)


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    assert list(SECTIONS) == list(ALERTS)
    for name, alert in ALERTS.items():
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_says_what_it_means_how_bad_it_is_what_to_look_at_and_what_to_do(name: str) -> None:
    assert re.findall(r"^\*\*(.+?)\*\*", SECTIONS[name], re.MULTILINE) == ["Means", "How bad", "Look", "Do"]


def test_the_commands_of_the_runbooks_are_there() -> None:
    parts = {"SERVICE", *yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]}
    commands = [line.split() for text in SECTIONS.values() for line in re.findall(r"^    (\S.*)$", text, re.MULTILINE)]
    commands += [each.split() for text in SECTIONS.values() for each in re.findall(r"`(gyre [a-z ]+)", text)]
    assert len(commands) > 20
    for command in commands:
        if command[0] == "gyre":
            known: Any = main.get_command(None, command[1])  # type: ignore[arg-type] # it needs no context
            assert known is not None, command
            if len(command) > 2 and hasattr(known, "commands"):
                assert command[2] in known.commands, command
        elif command[0] != "ask":  # tests/integration/audit asks all of those
            assert command[:2] == ["docker", "compose"], command
            named = [word for word in command[3:] if not word.startswith("-")]
            assert command[2] == "ps" or named[0] in parts, command


@pytest.mark.parametrize("arguments", [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]])
def test_prometheus_takes_the_alerts_and_they_do_what_they_say(arguments: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on this machine")
    result = subprocess.run([promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
