"""How long the loop takes from an expert's last label to the better answer: `python -m benchmarks.loop`.

Starts the whole stack on free ports, with a state folder that is removed afterwards, and publishes the sample bundle
with `--labels` for a run. Requests of `gyre.demo.traffic` (live ones of BFCL) are played, and the replayed expert
labels as many. Then nobody does anything: the run begins by itself, the gate judges, serving deploys, and the router
sends the next request to the specialist. Requests that nobody labelled are asked before and after.
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

import grpc.aio

from benchmarks.cascade import publish
from embedded.environment import replayed_expert_token, service_environment
from embedded.ports import stack_ports
from embedded.settings import Settings
from embedded.stack import Stack
from gyre.api.trainer.v1 import training_pb2, training_pb2_grpc
from gyre.demo.expert import answer_queue
from gyre.demo.play import Played, play
from gyre.demo.story import TASK, TENANT
from gyre.demo.traffic import by_offer, traffic
from schemas.bundle import Bundle, load_bundle
from services.runtime.shares import Share

SAMPLE = Path("deploy/bundle")
# Of the traffic that is played, for not all of it is flagged.
SPARE = 1.1
LOOK_SECONDS = 0.5
HOLDOUT_SHARE = 0.2


def main() -> None:
    """Start, play, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=200, help="that start a run")
    options = parser.parse_args()
    os.environ["GYRE_TELEMETRY_LOG_LEVEL"] = "WARNING"  # for the parts, which inherit it
    with tempfile.TemporaryDirectory(prefix="gyre-") as folder:
        stack = Stack(Settings(state_dir=Path(folder), ports=stack_ports()))
        try:
            stack.start()
            os.environ.update(service_environment(stack.settings))
            asyncio.run(_once(stack.settings, options.labels))
        finally:
            stack.stop()


def bundle_of(labels: int) -> Bundle:
    """Return the sample bundle, where so many labels start a run and a fifth of them is held out."""
    content = load_bundle(SAMPLE).model_dump()
    content["tenants"][TENANT]["experts"]["share"] = 1.0
    content["tasks"][TASK]["learning"] |= {"labels_needed": labels, "holdout_share": HOLDOUT_SHARE}
    return Bundle.model_validate(content)


async def _once(settings: Settings, labels: int) -> None:
    await publish(bundle_of(labels))
    router = f"http://{settings.address('GYRE_ROUTER_HTTP_PORT')}"
    requests = [request for request in traffic() if request.task == TASK]
    held_out = by_offer(request for request in requests if request.split == "held-out")
    everyday = by_offer([request for request in requests if request.split == "traffic"][: round(SPARE * labels)])
    before = await play(router, held_out, lambda: None)
    _show(f"before, by {before[0].model}", before)
    played = await play(router, everyday, lambda: None)
    by_id = {request.id: request for request in everyday}
    labelled: list[float] = []
    labelling = asyncio.create_task(
        answer_queue(
            settings.address("GYRE_TRIAGE_GRPC_PORT"),
            replayed_expert_token(settings),
            {each.request_id: by_id[each.traffic_id] for each in played},
            lambda: labelled.append(time.monotonic()),
        )
    )
    reached = await _run(settings)
    while True:  # the next request after the promotion that the specialist answers
        (answered,) = await play(router, held_out[:1], lambda: None)
        if answered.model != before[0].model:
            break
    reached["the specialist answers"] = time.monotonic()
    await labelling
    if len(labelled) < labels:
        raise SystemExit(f"the expert was asked {len(labelled)} times, and {labels} were wanted")
    since = labelled[labels - 1]
    print(f"from label {labels} of {len(labelled)}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for state, moment in reached.items():
        print(f"  {state:24}{(moment - since) / 60:6.2f} minutes")
    _show(f"after, by {answered.model}", await play(router, held_out, lambda: None))


async def _run(settings: Settings) -> dict[str, float]:
    """Follow the run that begins by itself, and return when it came how far."""
    names = {
        training_pb2.RUN_STATE_TRAINING: "training begins",
        training_pb2.RUN_STATE_GATING: "the gate begins",
        training_pb2.RUN_STATE_PROMOTED: "promoted",
    }
    reached: dict[str, float] = {}
    async with grpc.aio.insecure_channel(settings.address("GYRE_TRAINER_GRPC_PORT")) as channel:
        stub = training_pb2_grpc.TrainingStub(channel)
        while names[training_pb2.RUN_STATE_PROMOTED] not in reached:
            status = await stub.Status(training_pb2.StatusRequest())
            for run in status.runs[:1]:
                if run.state not in names:
                    raise SystemExit(f"the run ended without a promotion: {run.detail}")
                reached.setdefault(names[run.state], time.monotonic())
            await asyncio.sleep(LOOK_SECONDS)
    return reached


def _show(name: str, played: list[Played]) -> None:
    right = Share(sum(each.right for each in played), len(played))
    low, high = right.interval
    print(f"{name}: {right.right} of {right.of} right, {right.value:.1%} ({low:.1%} to {high:.1%})", flush=True)


if __name__ == "__main__":
    main()
