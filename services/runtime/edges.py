"""Who may ask whom, on which port: the one table that servers, network policies and documents are held to.

A caller is known by its certificate: the first label of a DNS name in it (`router` of `router.gyre.svc`). What is not
here is not allowed.
"""

from dataclasses import dataclass

SERVICES = ("router", "governance", "context", "audit", "triage", "trainer", "serving")
# Who has a certificate without being a service: the `gyre` command on an operator's machine, and who scrapes metrics.
OPERATOR, PROMETHEUS = "operator", "prometheus"
# What is asked and is not ours. These know their callers by their own means.
OTHERS = ("kafka", "clickhouse", "triton", "ray", "collector")


@dataclass(frozen=True)
class Edge:
    """One allowed way.

    Attributes:
        caller: Who asks.
        callee: Who is asked.
        port: Of the callee: `exchange` is that of `GYRE_<CALLEE>_EXCHANGE_PORT`. Others have one, by their name.
        use: What for.
    """

    caller: str
    callee: str
    port: str
    use: str


# Ports for people and applications: these show keys, tokens or passwords, and have no certificates.
PUBLIC = {
    ("router", "http"): "applications, by the OpenAI protocol",
    ("router", "grpc"): "applications, by gRPC",
    ("triage", "console"): "experts, by a browser",
    ("triage", "grpc"): "experts' tools, by gRPC",
}

EDGES = (
    Edge("router", "governance", "exchange", "verdicts"),
    Edge("router", "context", "exchange", "passages and memory"),
    Edge("context", "governance", "exchange", "verdicts on documents"),
    Edge("trainer", "serving", "grpc", "a candidate put to its trial"),
    Edge(OPERATOR, "context", "grpc", "documents in and out"),
    Edge(OPERATOR, "audit", "grpc", "proofs, lineage, erasure"),
    Edge(OPERATOR, "trainer", "grpc", "runs"),
    Edge(OPERATOR, "serving", "grpc", "deployments, rollback, export"),
    # A container asks its own service whether it serves (`deploy/containers/gyre-health`).
    *(Edge(name, name, "grpc", "its own health") for name in SERVICES if (name, "grpc") not in PUBLIC),
    *(Edge(PROMETHEUS, name, "metrics", "metrics") for name in SERVICES),
    *(Edge(name, "kafka", "kafka", "topics") for name in (*SERVICES, OPERATOR)),
    *(Edge(name, "collector", "collector", "traces") for name in SERVICES),
    Edge("audit", "clickhouse", "clickhouse", "the record"),
    Edge("triage", "clickhouse", "clickhouse", "numbers for the console"),
    Edge(OPERATOR, "clickhouse", "clickhouse", "the record, schemas, labels"),
    Edge("router", "triton", "triton", "answers"),
    Edge("trainer", "triton", "triton", "answers for the gate"),
    Edge("serving", "triton", "triton", "models loaded and looked after"),
    Edge("trainer", "ray", "ray", "training on more than its own machine"),
)


def is_public(callee: str, port: str) -> bool:
    """Say whether a port is for people and applications, who have no certificates."""
    return (callee, port) in PUBLIC


def callers(callee: str, port: str) -> frozenset[str]:
    """Return who may ask on a port that is not public; of a port that nothing is said about, nobody."""
    return frozenset(edge.caller for edge in EDGES if (edge.callee, edge.port) == (callee, port))
