"""Wires the trainer."""

import asyncio
from contextlib import AsyncExitStack

import msgspec

from gyre.api.trainer.v1.training_pb2_grpc import add_TrainingServicer_to_server
from services.runtime import rpc
from services.runtime.clock import Clock
from services.runtime.kafka import Follower, Producer
from services.runtime.models import ModelServers
from services.runtime.service import Service
from services.runtime.settings import KafkaSettings, TlsSettings, UpstreamSettings
from services.runtime.tls import tls_of
from services.trainer.adapters import GrpcTrial, KafkaAnnouncer, ProcessLearner
from services.trainer.consumer import follower
from services.trainer.contest import Contest
from services.trainer.handlers import Recipe, Training
from services.trainer.runs import Runs
from services.trainer.servicer import TrainingServicer
from services.trainer.settings import Settings
from services.trainer.state import Knowledge
from services.trainer.training import configuration


async def build(stack: AsyncExitStack) -> Service:
    """Build the service. It serves once it knows the labels and the runs that are there."""
    settings, kafka, tls = Settings(), KafkaSettings(), tls_of(TlsSettings())
    chosen = configuration.cpu() if settings.device == "cpu" else configuration.gpu()
    if settings.epochs is not None:
        chosen = msgspec.structs.replace(chosen, epochs=settings.epochs)
    producer = await stack.enter_async_context(Producer(kafka))
    models = await stack.enter_async_context(ModelServers(UpstreamSettings(), tls))
    channel = await stack.enter_async_context(rpc.channel(settings.serving_target, tls))
    knowledge, runs, clock = Knowledge(), Runs(settings.artifacts_dir), Clock()
    training = Training(
        knowledge,
        runs,
        ProcessLearner(settings.look_seconds),
        Contest(knowledge, runs, GrpcTrial(channel), models, clock, settings.gate_in_flight),
        KafkaAnnouncer(producer),
        clock,
        Recipe(chosen, settings.models_dir / settings.base, settings.ray_address or None),
    )
    stack.push_async_callback(training.stop)
    following = follower(kafka, knowledge)
    return Service(
        name="trainer",
        settings=settings,
        servicers=[
            rpc.Registration(add_TrainingServicer_to_server, TrainingServicer(training), "gyre.api.trainer.v1.Training")
        ],
        loops=[following.run, lambda: _watch(training, following, settings.look_seconds)],
        ready=[training.ready],
    )


async def _watch(training: Training, following: Follower, look_seconds: float) -> None:
    """Go on with what a restart broke off, then erase what is asked and begin runs as labels come in."""
    await following.caught_up()
    await training.erase_what_is_asked()  # first, for a run cannot read a dataset that is half erased
    training.resume()
    while True:
        await training.erase_what_is_asked()
        await training.start_what_is_due()
        await asyncio.sleep(look_seconds)
