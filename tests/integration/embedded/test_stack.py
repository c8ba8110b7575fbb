"""The supervised stack, on real Kafka and real Triton."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import tritonclient.grpc as triton_client
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from embedded.errors import PartFailed, PortTaken, StackConflict
from embedded.ports import stack_ports
from embedded.settings import Settings
from embedded.stack import Stack
from embedded.supervision import MARK, Supervisor
from embedded.triton import shared_memory_prefix

_CONFIG = """
backend: "python"
max_batch_size: 0
input [{ name: "in", data_type: TYPE_INT32, dims: [1] }]
output [{ name: "out", data_type: TYPE_INT32, dims: [1] }]
"""
_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "in").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("out", each)]) for each in inputs]
"""


@pytest.fixture
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own on free ports; nothing of it runs yet, and nothing of it is left after the test."""
    stack = Stack(Settings(state_dir=Path(tmp_path_factory.mktemp("stack")), ports=stack_ports()))
    try:
        yield stack
    finally:
        stack.stop()


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not so after {seconds:.0f} s: {condition}")


def pids(stack: Stack) -> dict[str, int]:
    return {each.part.name: each.pid for each in stack.status() if each.pid}


def states(stack: Stack) -> dict[str, str]:
    return {each.part.name: each.state for each in stack.status()}


def processes_of(stack: Stack) -> list[str]:
    """Looks for itself, by the folder in the command line as well as by the mark in the environment."""
    folder, found = str(stack.settings.state_dir), []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == folder or any(folder in word for word in process.cmdline()):
                found.append(" ".join(process.cmdline()))
        except (psutil.Error, OSError):
            continue
    return found


def segments_of(stack: Stack) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{shared_memory_prefix(stack.settings)}*"))


def load_model(stack: Stack) -> None:
    folder = stack.settings.triton_repository / "echo"
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(_CONFIG)
    (folder / "1" / "model.py").write_text(_MODEL)
    address = stack.settings.address("GYRE_EMBEDDED_TRITON_GRPC_PORT")
    with triton_client.InferenceServerClient(address) as client:
        client.load_model("echo", client_timeout=60)
        assert client.is_model_ready("echo")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


async def test_kafka_and_triton_come_up_survive_kills_and_leave_nothing(own_stack: Stack) -> None:
    own_stack.start(("kafka", "triton"))
    assert {name for name, state in states(own_stack).items() if state == "ready"} == {"kafka", "triton"}
    load_model(own_stack)
    first = pids(own_stack)
    assert segments_of(own_stack), "the prefix no longer finds Triton's segments"

    # Up twice is up once.
    own_stack.start(("kafka", "triton"))
    assert pids(own_stack) == first

    # Kafka keeps what it acknowledged when it is killed.
    bootstrap = own_stack.settings.address("GYRE_EMBEDDED_KAFKA_PORT")
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("kept", 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="test")
    await producer.start()
    async with producer.transaction():
        sent = await producer.send_and_wait("kept", b"before")
    assert sent.offset == 0
    os.kill(first["kafka"], signal.SIGKILL)
    wait_for(lambda: states(own_stack)["kafka"] == "ready" and pids(own_stack)["kafka"] != first["kafka"])
    async with producer.transaction():
        sent = await producer.send_and_wait("kept", b"after")
    await producer.stop()
    assert sent.offset > 0  # the record before it and its commit are still there

    # Triton comes back without what its predecessor left in shared memory.
    before = set(segments_of(own_stack))
    os.kill(first["triton"], signal.SIGKILL)
    wait_for(lambda: states(own_stack)["triton"] == "ready" and pids(own_stack)["triton"] != first["triton"])
    assert not before & set(segments_of(own_stack))
    load_model(own_stack)

    assert len(processes_of(own_stack)) >= 4  # the supervisor, Kafka, Triton and its model
    assert own_stack.stop()
    assert processes_of(own_stack) == []
    assert segments_of(own_stack) == []
    assert set(states(own_stack).values()) == {"stopped"}
    assert not own_stack.stop()


def test_what_a_killed_supervisor_leaves_is_ended_by_the_next_up(own_stack: Stack) -> None:
    own_stack.start(("triton",))
    load_model(own_stack)
    orphan = pids(own_stack)["triton"]
    supervisor = int((own_stack.settings.run_dir / "supervisor.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: not Supervisor(own_stack.settings).running())
    assert psutil.pid_exists(orphan)

    said: list[str] = []
    own_stack.start(("triton",), lambda progress: said.append(progress.part))

    assert "leftovers" in said
    assert not psutil.pid_exists(orphan) or psutil.Process(orphan).status() == psutil.STATUS_ZOMBIE
    assert states(own_stack)["triton"] == "ready"


def test_a_taken_port_is_an_error_that_names_the_port_the_part_and_the_variable(
    own_stack: Stack, taken_port: int
) -> None:
    settings = Settings(
        own_stack.settings.state_dir, {**own_stack.settings.ports, "GYRE_EMBEDDED_TRITON_HTTP_PORT": taken_port}
    )
    with pytest.raises(
        PortTaken, match=rf"Port {taken_port} .*triton wants it for HTTP.*GYRE_EMBEDDED_TRITON_HTTP_PORT"
    ):
        Stack(settings).start(("triton",))
    assert processes_of(own_stack) == []


def test_other_settings_than_those_that_run_are_refused(own_stack: Stack) -> None:
    own_stack.start(("triton",))
    other = {
        **own_stack.settings.ports,
        "GYRE_ROUTER_HTTP_PORT": own_stack.settings.ports["GYRE_ROUTER_HTTP_PORT"] % 65535 + 1,
    }
    with pytest.raises(StackConflict, match="GYRE_ROUTER_HTTP_PORT"):
        Stack(Settings(own_stack.settings.state_dir, other)).start(("triton",))
    # What only looks or stops finds the stack as it was started.
    assert states(Stack.running(Settings(own_stack.settings.state_dir, other)))["triton"] == "ready"


def test_a_part_that_cannot_start_fails_with_its_log(own_stack: Stack) -> None:
    # A file where Kafka's folder should be.
    (own_stack.settings.state_dir / "kafka").write_text("not a folder")
    with pytest.raises(PartFailed, match="kafka ends as soon as it is started") as failure:
        own_stack.start(("kafka",))
    sentence = f"Kafka cannot keep its log in {own_stack.settings.state_dir / 'kafka'};"
    assert any(line.startswith(sentence) for line in failure.value.log_tail), failure.value.log_tail
