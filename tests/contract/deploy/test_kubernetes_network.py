"""Pods reach one another where the table of edges says so, and nowhere else."""

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from itertools import product

from tests.contract.deploy.edges import ALL_PORTS, EDGES, OUTSIDE
from tests.contract.deploy.rendered import PART, Object, matches, of_kind, pods

ELSEWHERE = 22  # a port that nobody listens on


@dataclass(frozen=True)
class Place:
    """Where packets come from or go to: a pod in a namespace, or an address."""

    namespace: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    address: str = ""

    @property
    def is_ours(self) -> bool:
        return self.namespace.get("kubernetes.io/metadata.name") == "gyre"


def pod(namespace: str, **labels: str) -> Place:
    return Place({"kubernetes.io/metadata.name": namespace}, labels)


OTHERS = {
    "dns": pod("kube-system", **{"k8s-app": "kube-dns"}),
    "prometheus": pod("monitoring", **{"app.kubernetes.io/name": "prometheus"}),
    "collector": pod("monitoring", **{"app.kubernetes.io/name": "opentelemetry-collector"}),
    "grafana": pod("monitoring", **{"app.kubernetes.io/name": "grafana"}),
    "clients": Place({"kubernetes.io/metadata.name": "shop", "gyre/clients": "true"}),
    "stranger": pod("stranger"),
    "strimzi": pod("strimzi"),
    "clickhouse-operator": pod("clickhouse-operator"),
    "kuberay": pod("kuberay"),
    "internet": Place(address="203.0.113.7"),
    "neighbour": Place(address="10.1.2.3"),
}


def places(objects: list[Object]) -> dict[str, Place]:
    kafka = of_kind(objects, "Kafka")["gyre"]["spec"]
    templates = [kafka["kafka"]["template"]["pod"], kafka["entityOperator"]["template"]["pod"]]
    labels = [each.labels for each in pods(objects)] + [each["metadata"]["labels"] for each in templates]
    return OTHERS | {each[PART]: pod("gyre", **each) for each in labels}


def lets_out(objects: list[Object], caller: Place, callee: Place, port: int) -> bool:
    """Whether the policies of a pod of ours let it ask there."""
    return _allows(objects, caller, callee, port, "Egress")


def lets_in(objects: list[Object], caller: Place, callee: Place, port: int) -> bool:
    """Whether the policies of a pod of ours let it be asked by that caller."""
    return _allows(objects, callee, caller, port, "Ingress")


def _allows(objects: list[Object], one: Place, other: Place, port: int, direction: str) -> bool:
    specs = [each["spec"] for each in of_kind(objects, "NetworkPolicy").values()]
    selecting = [
        each for each in specs if matches(each["podSelector"], one.labels) and direction in each["policyTypes"]
    ]
    if not selecting:
        return True
    peers, rules = ("to", "egress") if direction == "Egress" else ("from", "ingress")
    return any(
        any(_is(peer, other) for peer in rule[peers]) and _has(rule, port)
        for each in selecting
        for rule in each.get(rules, ())
    )


def _has(rule: Object, port: int) -> bool:
    return "ports" not in rule or port in [each["port"] for each in rule["ports"]]


def _is(peer: Object, place: Place) -> bool:
    if "ipBlock" in peer:
        # Of pods no address is known, and policies are not written for them that way.
        inside = place.address and ip_address(place.address) in ip_network(peer["ipBlock"]["cidr"])
        return bool(inside) and not any(
            ip_address(place.address) in ip_network(each) for each in peer["ipBlock"].get("except", ())
        )
    if place.address:
        return False
    if "namespaceSelector" in peer:
        if not matches(peer["namespaceSelector"], place.namespace):
            return False
    elif not place.is_ours:
        return False
    return matches(peer.get("podSelector", {}), place.labels)


def test_who_reaches_whom_is_the_table_of_edges(objects: list[Object], overlay: str) -> None:
    known = places(objects)
    table = EDGES | (OUTSIDE if overlay == "production" else set())
    wanted = {(caller, callee, port) for caller, callee, port in table if {caller, callee} <= known.keys()}
    ports = {port for _, _, port in wanted} | {
        port["containerPort"] for each in pods(objects) for one in each.containers for port in one.get("ports", ())
    }
    out, into = set(), set()
    for caller, callee, port in product(known, known, {*ports, ELSEWHERE}):
        edge = (caller, callee, port)
        # Who reads topics and users of the Kubernetes API may ask any address on its ports.
        if callee == "dns" or (caller, callee) in ALL_PORTS or (caller, callee) == ("entity-operator", "neighbour"):
            continue
        if known[caller].is_ours and lets_out(objects, known[caller], known[callee], port):
            out.add(edge)
        if known[callee].is_ours and lets_in(objects, known[caller], known[callee], port):
            into.add(edge)
    # Both sides have to allow it, and each is as strict as if it stood alone.
    assert out == {edge for edge in wanted if known[edge[0]].is_ours}
    assert into == {edge for edge in wanted if known[edge[1]].is_ours}


def test_every_pod_may_ask_for_names_and_what_chooses_its_ports_has_all(objects: list[Object]) -> None:
    known = places(objects)
    for place in known.values():
        assert not place.is_ours or lets_out(objects, place, known["dns"], 53)
    for caller, callee in ALL_PORTS:
        if caller in known:
            assert lets_out(objects, known[caller], known[callee], ELSEWHERE)
            assert lets_in(objects, known[caller], known[callee], ELSEWHERE)


def test_every_pod_has_a_policy_of_its_own(objects: list[Object]) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    assert policies["nobody"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for part, place in places(objects).items():
        if place.is_ours:
            assert policies[part]["spec"]["podSelector"] == {"matchLabels": {PART: part}}


def test_what_strimzi_makes_of_its_own_lets_in_no_more(objects: list[Object]) -> None:
    """Policies add up, and Strimzi writes one for each listener."""
    for listener in of_kind(objects, "Kafka")["gyre"]["spec"]["kafka"]["listeners"]:
        let_in = {
            value
            for peer in listener["networkPolicyPeers"]
            for expression in peer["podSelector"]["matchExpressions"]
            for value in expression["values"]
        }
        assert let_in == {caller for caller, callee, port in EDGES if (callee, port) == ("kafka", listener["port"])}
