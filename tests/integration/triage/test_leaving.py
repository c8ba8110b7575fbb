"""A consumer of Faust's that was not ended does not keep the process alive."""

import subprocess
import sys

# As Faust's consumer, but it reads nothing: a thread of its own that nobody stops.
LEAVE = """
import asyncio
import services.triage.consumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from mode.threads import ServiceThread

class Consumer(ServiceThread):
    Worker = AIOKafkaConsumerThread.Worker

async def leave():
    await Consumer().start()
    print("left", flush=True)

asyncio.run(leave())
"""


def test_a_process_ends_though_a_consumers_thread_was_left() -> None:
    ended = subprocess.run([sys.executable, "-c", LEAVE], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "left\n"), ended.stderr
