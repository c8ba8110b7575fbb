"""What may have replicas has them, follows its load and loses one at a time; what may not is there once."""

import re
from collections.abc import Iterator

import prometheus_client

from services.runtime import telemetry
from tests.contract.deploy.rendered import (
    SERVICES,
    SINGLE,
    Object,
    configuration,
    everything,
    matches,
    of_kind,
)


def several(objects: list[Object]) -> Iterator[Object]:
    """The workloads that may have more than one pod."""
    for each in objects:
        if each["kind"] in {"Deployment", "StatefulSet"} and each["metadata"]["name"] not in SINGLE:
            yield each


def test_every_workload_of_several_pods_is_spread_and_loses_one_at_a_time(objects: list[Object]) -> None:
    budgets = of_kind(objects, "PodDisruptionBudget")
    names = {each["metadata"]["name"] for each in several(objects)}
    assert names == set(SERVICES) - SINGLE == budgets.keys()
    for each in several(objects):
        template = each["spec"]["template"]
        budget = budgets[each["metadata"]["name"]]["spec"]
        assert budget["maxUnavailable"] == 1
        assert matches(budget["selector"], template["metadata"]["labels"])
        constraints = template["spec"]["topologySpreadConstraints"]
        assert {one["topologyKey"] for one in constraints} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        assert all(matches(one["labelSelector"], template["metadata"]["labels"]) for one in constraints)


def test_what_may_be_there_once_is_there_once(objects: list[Object]) -> None:
    for name in SINGLE - {"operator"}:
        # Of a Deployment the old pod and the new one may run at once.
        assert of_kind(objects, "StatefulSet")[name]["spec"]["replicas"] == 1
    assert not SINGLE & {each["spec"]["scaleTargetRef"]["name"] for each in of_kind(objects, "ScaledObject").values()}


def test_every_workload_of_several_pods_follows_its_load_in_production() -> None:
    objects = everything("production")
    scaled = of_kind(objects, "ScaledObject")
    partitions = int(next(each for name, each in configuration(objects).items() if name == "GYRE_KAFKA_PARTITIONS"))
    for each in several(objects):
        name, spec = each["metadata"]["name"], scaled[each["metadata"]["name"]]["spec"]
        assert spec["scaleTargetRef"] == {"kind": each["kind"], "name": name}
        assert "replicas" not in each["spec"], "it would be set back whenever the manifests are applied"
        assert 2 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
        if name in {"audit", "triage"}:  # which share out partitions
            assert spec["maxReplicaCount"] <= partitions
    assert scaled.keys() == {each["metadata"]["name"] for each in several(objects)}


def test_every_metric_that_replicas_follow_is_one_of_ours() -> None:
    ours = {
        sample.name
        for each in vars(telemetry).values()
        if isinstance(each, prometheus_client.metrics.MetricWrapperBase)
        for sample in each.describe()
    }
    used = set()
    for each in of_kind(everything("production"), "ScaledObject").values():
        for trigger in each["spec"]["triggers"]:
            if trigger["type"] == "prometheus":
                used |= set(re.findall(r"\bgyre_\w+", trigger["metadata"]["query"]))
                assert "fallback" in each["spec"], "without Prometheus replicas would stay as they are"
    assert "gyre_lag_records" in used
    assert used <= ours
