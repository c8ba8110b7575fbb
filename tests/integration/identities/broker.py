"""A Kafka that knows who asks it, and allows what its authorizer was told."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from embedded.kafka import prepare, server_properties
from embedded.ports import free_ports, stack_ports
from embedded.settings import HOST, Settings
from schemas.access import ACCESS
from services.runtime.settings import KafkaSettings
from tests.certificates import Folders

ADMIN = "admin"
START_SECONDS = 180


@dataclass(frozen=True)
class Broker:
    """Where it is, and how each identity signs in.

    Attributes:
        plain: Its address for SASL_PLAINTEXT.
        encrypted: Its address for SASL_SSL.
        ca_file: Whom to believe there.
    """

    plain: str
    encrypted: str
    ca_file: Path

    def environment(self, identity: str) -> dict[str, str]:
        """Return the variables of an identity that signs in over TLS."""
        return {
            "GYRE_KAFKA_BOOTSTRAP_SERVERS": self.encrypted,
            "GYRE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "GYRE_KAFKA_USER": identity,
            "GYRE_KAFKA_PASSWORD": password(identity),
            "GYRE_KAFKA_CA_FILE": str(self.ca_file),
        }

    def settings(self, identity: str) -> KafkaSettings:
        """Return the settings of an identity that signs in without TLS."""
        return KafkaSettings(
            bootstrap_servers=self.plain,
            security_protocol="SASL_PLAINTEXT",
            user=identity,
            password=SecretStr(password(identity)),
        )


def password(identity: str) -> str:
    """Return what an identity signs in with."""
    return f"pass-of-{identity}"


@contextmanager
def broker_with_identities(folder: Path) -> Iterator[Broker]:
    """Start a broker that has a user for each identity of `schemas.access`, and allows nothing to any of them."""
    settings = Settings(state_dir=folder / "state", ports=stack_ports())
    encrypted = f"{HOST}:{free_ports(1)[0]}"
    plain = settings.address("GYRE_EMBEDDED_KAFKA_PORT")
    controller = settings.address("GYRE_EMBEDDED_KAFKA_CONTROLLER_PORT")
    folders = Folders(folder)
    own, keystore = folders.of("kafka"), folder / "kafka.pem"
    keystore.write_bytes((own / "tls.key").read_bytes() + (own / "tls.crt").read_bytes())  # as Kafka reads them
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    properties = {
        **server_properties(settings),
        "listeners": f"SASL_PLAINTEXT://{plain},SASL_SSL://{encrypted},CONTROLLER://{controller}",
        "advertised.listeners": f"SASL_PLAINTEXT://{plain},SASL_SSL://{encrypted}",
        "listener.security.protocol.map": ("CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL"),
        "inter.broker.listener.name": "SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": (
            f'{scram} username="{ADMIN}" password="{password(ADMIN)}";'
        ),
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{scram};",
        "listener.name.sasl_ssl.ssl.keystore.type": "PEM",
        "listener.name.sasl_ssl.ssl.keystore.location": str(keystore),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The one who has no name is the broker itself, at its controller.
        "super.users": f"User:{ADMIN};User:ANONYMOUS",
    }
    users = [
        option
        for identity in (ADMIN, *ACCESS)
        for option in ("--add-scram", f"SCRAM-SHA-512=[name={identity},password={password(identity)}]")
    ]
    command = prepare(settings, properties, *users)
    broker = Broker(plain, encrypted, folders.ca_file)
    with (folder / "kafka.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait(plain, process)
            yield broker
        finally:
            process.terminate()
            process.wait(30)


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    """Return once it listens, which it does when it can answer."""
    host, _, port = address.partition(":")
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, "Kafka has ended; kafka.log says why"
        assert time.monotonic() < deadline, f"Kafka does not listen at {address}"
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(0.1)
