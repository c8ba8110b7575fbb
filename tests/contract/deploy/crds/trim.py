"""Makes the files of this folder of operators' own: `python trim.py FILE...` writes each, smaller, beside this script.

What goes is what validation does not need: descriptions, status, versions that are not the newest, and parts that Gyre
has no use for (`UNUSED`), which are then refused. Pod templates are marked, for Kubernetes' own schemas to check.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

POD_TEMPLATE = "x-gyre-pod-template"
UNUSED = {
    "Issuer": {"acme", "vault", "venafi"},
    "Kafka": {"cruiseControl", "kafkaExporter", "tieredStorage", "affinity", "jmxOptions"},
    "KafkaNodePool": {"affinity"},
    "RayCluster": {"autoscalerOptions", "headService", "gcsFaultToleranceOptions"},
}


def trimmed(node: Any, unused: set[str]) -> Any:
    """Return a schema without what is not needed."""
    if isinstance(node, list):
        return [trimmed(each, unused) for each in node]
    if not isinstance(node, dict):
        return node
    if "containers" in node.get("properties", {}).get("spec", {}).get("properties", {}):
        return {"type": "object", POD_TEMPLATE: True}
    kept = {name: trimmed(each, unused) for name, each in node.items() if not _is_text(name, each)}
    if "properties" in kept:
        kept["properties"] = {name: each for name, each in kept["properties"].items() if name not in unused}
    return kept


def _is_text(name: str, value: Any) -> bool:
    """Whether an entry is a keyword for readers; a field of a resource that is called so has a schema instead."""
    return name in {"description", "example", "externalDocs"} and not isinstance(value, dict)


def main() -> None:
    """Trim the files named on the command line."""
    for path in map(Path, sys.argv[1:]):
        crd = yaml.safe_load(path.read_text())
        spec, kind = crd["spec"], crd["spec"]["names"]["kind"]
        version = next(each for each in spec["versions"] if each["storage"])
        schema = version["schema"]["openAPIV3Schema"]
        schema["properties"].pop("status", None)
        small = {
            "apiVersion": crd["apiVersion"],
            "kind": crd["kind"],
            "metadata": {"name": crd["metadata"]["name"]},
            "spec": {
                "group": spec["group"],
                "names": {"kind": kind},
                "versions": [
                    {
                        "name": version["name"],
                        "schema": {"openAPIV3Schema": trimmed(schema, UNUSED.get(kind, set()))},
                    }
                ],
            },
        }
        Path(__file__).with_name(f"{kind}.yaml").write_text(yaml.safe_dump(small, sort_keys=False, width=120))


if __name__ == "__main__":
    main()
