"""The loop, once round: traffic, experts, a specialist, the gate, the answers afterwards."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gyre.api.serving.v1 import serving_pb2, serving_pb2_grpc
from gyre.api.trainer.v1 import training_pb2, training_pb2_grpc
from gyre.demo import report as reporting
from gyre.demo.expert import answer_queue
from gyre.demo.play import DEMO_KEY, DemoError, Played, play
from gyre.demo.traffic import TrafficRequest, by_offer, traffic

TENANT = "customer-care"
TASK = "consumer-services"
CALL_SECONDS = 10.0
START_SECONDS = 180.0
# How long a run takes depends on the machine; one that stands still for this long has failed.
STILL_SECONDS = 600.0
ENDED = {
    training_pb2.RUN_STATE_PROMOTED,
    training_pb2.RUN_STATE_REFUSED,
    training_pb2.RUN_STATE_FAILED,
    training_pb2.RUN_STATE_CANCELLED,
}


@dataclass(frozen=True)
class Addresses:
    """Where the stack's parts answer: the router's URL, the others as host:port."""

    router: str
    triage: str
    trainer: str
    serving: str


class Story:
    """Plays one round against a running stack, showing progress on a console."""

    def __init__(self, addresses: Addresses, expert_token: str, console: Console) -> None:
        self._at = addresses
        self._expert_token = expert_token
        self._console = console

    async def tell(self) -> reporting.Report:
        """Play the whole round.

        Raises:
            DemoError: It cannot go on; the message says why and what to do.
        """
        started = time.monotonic()
        requests = [request for request in traffic() if request.task == TASK]
        held_out = by_offer(request for request in requests if request.split == "held-out")
        learned = by_offer(request for request in requests if request.split == "traffic")
        await self._begin_with_the_generic_model()

        self._say(f"1. {len(held_out)} held-out requests, for later comparison")
        before = await self._play("held-out", held_out)
        self._say(f"2. {len(learned)} requests of everyday traffic")
        played = await self._play("traffic", learned)
        self._say("3. The flagged ones go to the expert (a stand-in that replays the ground truth)")
        known_runs = {run.run_id for run in (await self._training_status()).runs}
        labelled = await self._ask_expert(played, learned)
        self._say("4. A specialist is trained on the expert's answers, and has to pass the gate")
        run = await self._train(known_runs)
        self._say("5. It goes live")
        await self._goes_live(run.candidate_id)
        self._say("6. The held-out requests again")
        after = await self._play("held-out", held_out)
        return reporting.Report(
            before=reporting.side(before),
            after=reporting.side(after),
            traffic=len(learned),
            labelled=labelled,
            training_rows=run.training_rows,
            run_id=run.run_id,
            gate=run.detail,
            minutes=(time.monotonic() - started) / 60,
        )

    def _say(self, text: str) -> None:
        self._console.print(f"\n[bold]{text}[/bold]")

    @asynccontextmanager
    async def _progress(self) -> AsyncIterator[Progress]:
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        ) as progress:
            yield progress

    async def _begin_with_the_generic_model(self) -> None:
        await self._no_specialist_is_live()
        deadline = time.monotonic() + START_SECONDS
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {DEMO_KEY}"}) as client:
            while True:
                try:
                    listed = await client.get(f"{self._at.router}/v1/models", timeout=CALL_SECONDS)
                    reason = listed.text[:200]
                    if listed.status_code == httpx.codes.OK and listed.json()["data"]:
                        return
                except httpx.HTTPError as error:
                    reason = repr(error)
                if time.monotonic() > deadline:
                    raise DemoError(
                        f"The router lists no model ({reason}). Look at `gyre status` and `gyre logs serving`."
                    )
                await asyncio.sleep(0.5)

    async def _no_specialist_is_live(self) -> None:
        """Take back what an earlier round has left live, so that `before` is the generic model again."""
        async with grpc.aio.insecure_channel(self._at.serving) as channel:
            stub = serving_pb2_grpc.ServingStub(channel)
            while True:
                status = await stub.Status(serving_pb2.StatusRequest(), timeout=CALL_SECONDS)
                if not any(each.task == TASK and each.state in ("live", "canary") for each in status.deployments):
                    return
                self._console.print("A specialist is live from an earlier round: it is rolled back first.")
                request = serving_pb2.RollbackRequest(
                    tenant=TENANT, task=TASK, reason="the demo begins anew", asked_by="gyre demo"
                )
                await stub.Rollback(request, timeout=START_SECONDS)
                await asyncio.sleep(1)

    async def _play(self, name: str, requests: Sequence[TrafficRequest]) -> list[Played]:
        async with self._progress() as progress:
            task = progress.add_task(name, total=len(requests), note="")
            played = await play(self._at.router, requests, lambda: progress.advance(task))
            right = sum(each.right for each in played)
            progress.update(task, note=f"{right} right, by {reporting.side(played).kind}")
            return played

    async def _ask_expert(self, played: Sequence[Played], requests: Sequence[TrafficRequest]) -> int:
        by_id = {request.id: request for request in requests}
        asked = {each.request_id: by_id[each.traffic_id] for each in played}
        async with self._progress() as progress:
            task = progress.add_task("labels", total=len(asked), note="")
            labelled = await answer_queue(self._at.triage, self._expert_token, asked, lambda: progress.advance(task))
            progress.update(task, total=labelled, note=f"the expert saw {labelled / len(asked):.0%} of the traffic")
        if not labelled:
            raise DemoError("No request was flagged for the expert. Look at `gyre logs triage`.")
        return labelled

    async def _training_status(self) -> training_pb2.StatusResponse:
        async with grpc.aio.insecure_channel(self._at.trainer) as channel:
            stub = training_pb2_grpc.TrainingStub(channel)
            return await stub.Status(training_pb2.StatusRequest(), timeout=CALL_SECONDS)

    async def _train(self, known: set[str]) -> training_pb2.Run:
        deadline = time.monotonic() + STILL_SECONDS
        waited = 0.0
        reached: tuple[int, ...] = ()
        async with self._progress() as progress:
            training = progress.add_task("waiting for the run", total=None, note="")
            gate = progress.add_task("gate", total=None, note="", visible=False)
            while time.monotonic() < deadline:
                status = await self._training_status()
                new = [run for run in status.runs if run.run_id not in known]
                if not new:
                    # The run starts by itself once there are enough labels; what is short of it is started by hand.
                    waited += 1
                    if waited == 15:
                        await self._start_training()
                    await asyncio.sleep(1)
                    continue
                run = new[-1]
                if run.state in ENDED:
                    if run.state != training_pb2.RUN_STATE_PROMOTED:
                        raise DemoError(
                            f"The run ended without a promotion: {run.detail}. Look at `gyre logs trainer`."
                        )
                    progress.update(gate, visible=True, completed=run.gate_items, total=run.gate_items, note="passed")
                    return run
                if reached != (run.state, run.step, run.gated):
                    reached = (run.state, run.step, run.gated)
                    deadline = time.monotonic() + STILL_SECONDS
                note = f"loss {run.loss:.3f}, {run.tokens_per_second:.0f} tokens/s" if run.step else "preparing"
                progress.update(
                    training,
                    description=f"training on {run.training_rows} rows",
                    completed=run.step,
                    total=run.steps or None,
                    note=note,
                )
                if run.state == training_pb2.RUN_STATE_GATING:
                    progress.update(
                        gate, visible=True, completed=run.gated, total=run.gate_items, note="old and new, same items"
                    )
                await asyncio.sleep(1)
        raise DemoError(f"Training has stood still for {STILL_SECONDS / 60:.0f} minutes. Look at `gyre logs trainer`.")

    async def _start_training(self) -> None:
        async with grpc.aio.insecure_channel(self._at.trainer) as channel:
            try:
                await training_pb2_grpc.TrainingStub(channel).Start(
                    training_pb2.StartRequest(tenant=TENANT, task=TASK), timeout=START_SECONDS
                )
            except grpc.aio.AioRpcError as error:
                raise DemoError(f"Training cannot start: {error.details()}.") from error

    async def _goes_live(self, candidate_id: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        detail = ""
        async with grpc.aio.insecure_channel(self._at.serving) as channel:
            stub = serving_pb2_grpc.ServingStub(channel)
            while time.monotonic() < deadline:
                status = await stub.Status(serving_pb2.StatusRequest(), timeout=CALL_SECONDS)
                for each in status.deployments:
                    detail = each.detail
                    if each.candidate_id == candidate_id and each.state == "live" and each.healthy:
                        self._console.print(f"   {each.model}, version {each.model_version}, answers")
                        return
                await asyncio.sleep(0.5)
        raise DemoError(f"The specialist did not go live ({detail}). Look at `gyre logs serving`.")
