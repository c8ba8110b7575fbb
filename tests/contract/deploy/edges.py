"""Who may talk to whom in the cluster, and on which ports: what the network policies are held to."""

from tests.contract.deploy.rendered import SERVICES

# Ports that others of ours ask at, and people and applications, by part.
PORTS = {
    ("router", "http"): 18080,
    ("router", "grpc"): 18081,
    ("governance", "exchange"): 18092,
    ("context", "grpc"): 18083,
    ("context", "exchange"): 18093,
    ("audit", "grpc"): 18084,
    ("triage", "grpc"): 18085,
    ("triage", "console"): 18090,
    ("trainer", "grpc"): 18086,
    ("serving", "grpc"): 18087,
}
METRICS = {name: 18181 + place for place, name in enumerate(SERVICES)}

EDGES: set[tuple[str, str, int]] = {
    # Between services.
    ("router", "governance", PORTS["governance", "exchange"]),
    ("router", "context", PORTS["context", "exchange"]),
    ("context", "governance", PORTS["governance", "exchange"]),
    ("trainer", "serving", PORTS["serving", "grpc"]),
    # Of who runs the `gyre` command.
    *(("operator", name, PORTS[name, "grpc"]) for name in ("context", "audit", "trainer", "serving")),
    ("operator", "clickhouse", 8443),
    # Of people and applications.
    *(("clients", part, number) for (part, port), number in PORTS.items() if part in {"router", "triage"}),
    # To what all stands on.
    *((name, "kafka", 9093) for name in (*SERVICES, "operator")),
    *((name, "collector", 4317) for name in SERVICES),
    ("audit", "clickhouse", 8443),
    ("triage", "clickhouse", 8443),
    *((name, "triton", 8001) for name in ("router", "trainer", "serving")),
    ("trainer", "ray", 10001),
    # Of monitoring.
    *(("prometheus", name, number) for name, number in METRICS.items()),
    ("prometheus", "triton", 8002),
    # Within what others have made, and of the operators that look after it.
    *(("kafka", "kafka", number) for number in (9090, 9091)),
    ("entity-operator", "kafka", 9091),
    *(("strimzi", "kafka", number) for number in (9090, 9091, 8443)),
    *(("entity-operator", "internet", number) for number in (443, 6443)),  # the Kubernetes API, wherever it is
    *(("clickhouse", "clickhouse", number) for number in (9000, 9009)),
    ("clickhouse", "keeper", 2181),
    ("keeper", "keeper", 9444),
    *(("clickhouse-operator", "clickhouse", number) for number in (8123, 9000)),
    ("clickhouse-operator", "keeper", 2181),
    ("kuberay", "ray", 8265),
}
# Of overlays/production: OpenAI-compatible servers of the bundle, and the experts' identity provider.
OUTSIDE = {(name, "internet", 443) for name in ("router", "trainer", "triage")}
# Among themselves they choose ports of their own.
ALL_PORTS = {("ray", "ray")}
