"""Prints Kafka's topics as Strimzi's resources: `python topics.py > base/kafka/topics.yaml`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a file of a checkout

from schemas.topics import Topic
from services.runtime.kafka.topics import new_topics
from services.runtime.settings import KafkaSettings

# Of topics keyed by request. It cannot be changed once there are records.
PARTITIONS = 12
REPLICATION_FACTOR = 3


def resources() -> Iterator[dict[str, Any]]:
    """Yield a KafkaTopic for each topic and each of its dead letters, as the services themselves would make them."""
    settings = KafkaSettings(partitions=PARTITIONS, replication_factor=REPLICATION_FACTOR)
    for topic in Topic:
        for each in new_topics(topic, settings):
            yield {
                "apiVersion": "kafka.strimzi.io/v1",
                "kind": "KafkaTopic",
                "metadata": {"name": each.name, "labels": {"strimzi.io/cluster": "gyre"}},
                "spec": {
                    "partitions": each.num_partitions,
                    "replicas": each.replication_factor,
                    "config": each.topic_configs,
                },
            }


if __name__ == "__main__":
    sys.stdout.write("# Made by deploy/kubernetes/topics.py of schemas/topics.py; not to be edited.\n")
    yaml.safe_dump_all(resources(), sys.stdout, sort_keys=False)
