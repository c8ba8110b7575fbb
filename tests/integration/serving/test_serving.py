"""Candidates to deployments to Triton, on real parts. The tests follow one task through its life, in this order."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import grpc.aio
import psutil
import pytest
from click.testing import CliRunner, Result
from gguf import GGUFReader
from tokenizers import Tokenizer

from gyre.api.serving.v1 import serving_pb2
from gyre.cli import main
from gyre.exports import verify
from schemas.prompts import Generated
from services.serving.adapters import BASE_GGUF
from tests.integration.serving.conftest import MODEL, TASK, TENANT, Loop, until

# The first test of a run may have to make the models and to start Kafka and Triton.
pytestmark = pytest.mark.timeout(600)


async def test_a_generic_model_of_the_bundle_is_loaded_and_answers(loop: Loop) -> None:
    assert (await loop.answers("small")).completion_tokens > 0


async def test_a_trial_answers_and_is_not_deployed(loop: Loop) -> None:
    model, version = await loop.deploy("first", loop.adapter("first"))
    assert (model, version) == (MODEL, "1")
    base, adapted = await loop.answers("small"), await loop.answers(model, version)
    assert base.sum_logprob != pytest.approx(adapted.sum_logprob, abs=1e-3)
    status = await loop.status("first")
    assert (status.state, status.healthy, status.detail) == ("trial", True, "")


async def test_a_promoted_candidate_goes_live_where_it_was_tried(loop: Loop) -> None:
    await loop.tell("first", "first/adapter")
    deployment = await loop.live("first")
    assert (deployment.model, deployment.model_version, deployment.previous) == (MODEL, "1", ())
    assert (deployment.system_prompt, deployment.reason) == ("Answer.", "better on the hold-out")


async def test_a_second_goes_live_beside_the_first_and_breaks_off_no_answer(loop: Loop) -> None:
    answer = loop.long_answer(MODEL, "1")
    await anext(answer)
    await loop.tell("second", loop.adapter("second"))
    deployment = await loop.live("second")
    *_, end = [piece async for piece in answer]
    assert isinstance(end, Generated)
    assert end.finish_reason in ("stop", "length")
    assert (deployment.model_version, deployment.previous) == ("2", ("first",))
    second = await loop.answers(MODEL, "2")
    first = await loop.answers(MODEL, "1")
    assert first.sum_logprob != pytest.approx(second.sum_logprob, abs=1e-3)


async def test_what_the_base_weighs_is_in_memory_once_however_many_specialists_there_are(
    loop: Loop, triton_pid: Callable[[], int]
) -> None:
    processes = psutil.Process(triton_pid()).children(recursive=True)
    mapped = [each for one in processes for each in one.memory_maps() if each.path.endswith(BASE_GGUF)]
    assert len(mapped) >= 4
    for each in mapped:
        assert each.rss > 100 * 2**20
        assert each.private_dirty == 0
        assert each.pss < each.rss / 2


async def test_a_refused_candidate_is_unloaded(loop: Loop, triton_pid: Callable[[], int]) -> None:
    model, version = await loop.deploy("refused", loop.adapter("refused"))
    await loop.answers(model, version)
    await asyncio.gather(*(loop.answer(model, version) for _ in range(6)))
    processes = _stubs(triton_pid(), f"{model}/{version}")
    assert len(processes) == 2
    await loop.tell("refused", "refused/adapter", verdict="refuse")
    await loop.is_gone(model, version)

    async def are_gone() -> bool:
        return not processes & _stubs(triton_pid())

    await until(are_gone)
    assert await loop.status("refused") is None
    assert (await loop.live("second")).state == "live"


async def test_candidates_that_cannot_be_loaded_are_dead_letters_and_leave_the_live_one_alone(loop: Loop) -> None:
    before = len(await loop.dead_letters())
    await loop.tell("gone", "gone/adapter")
    await loop.tell("misfit", loop.adapter("misfit", inner=1500))
    await loop.tell("outside", "../outside")

    async def three() -> list[str]:
        reasons = [letter.reason for letter in (await loop.dead_letters())[before:]]
        return reasons if len(reasons) == 3 else []

    gone, misfit, outside = await until(three)
    assert gone == "adapter_path: there is no PEFT adapter in 'gone/adapter'"
    assert misfit.startswith("candidate misfit cannot be loaded: Triton, model")
    assert outside == "adapter_path: '../outside' leads out of the artifacts folder"
    await loop.answers(MODEL, "2")
    await loop.answers(MODEL, "1")
    assert (await loop.live("second")).state == "live"


async def test_a_killed_model_process_is_replaced(loop: Loop, triton_pid: Callable[[], int]) -> None:
    stubs = _stubs(triton_pid())
    assert len(stubs) >= 6
    for pid in stubs:
        os.kill(pid, signal.SIGKILL)
    await loop.is_gone("small", "")
    for model, version in (("small", ""), (MODEL, "1"), (MODEL, "2")):
        await loop.answers(model, version)


async def test_one_killed_process_of_a_model_is_seen_beside_the_one_that_answers(
    loop: Loop, triton_pid: Callable[[], int]
) -> None:
    before = _stubs(triton_pid(), "small")
    assert len(before) == 2
    os.kill(min(before), signal.SIGKILL)

    async def two_are_new() -> bool:
        # Triton keeps the other old one: the requests that met the killed one count as under way for ever.
        return len(_stubs(triton_pid(), "small") - before) == 2

    await until(two_are_new)
    await loop.answers("small")
    assert all(await asyncio.gather(*(loop.answer("small") for _ in range(4))))


async def test_a_killed_triton_comes_back_with_all_that_was_loaded(loop: Loop, triton_pid: Callable[[], int]) -> None:
    killed = triton_pid()
    os.kill(killed, signal.SIGKILL)
    await loop.is_gone("small", "")
    for model, version in (("small", ""), (MODEL, "1"), (MODEL, "2")):
        await loop.answers(model, version)
    assert triton_pid() != killed


async def test_a_killed_serving_comes_back_to_what_the_topics_say(loop: Loop) -> None:
    model, version = await loop.deploy("forgotten", loop.adapter("forgotten"))
    loop.process.kill()
    loop.process.start()
    await loop.process.serving()
    await loop.is_gone(model, version)  # a trial lives as long as the process that was asked for it
    await loop.answers(MODEL, "1")
    await loop.answers(MODEL, "2")
    status = await loop.status("second")
    assert (status.state, status.healthy) == ("live", True)
    assert await loop.status("forgotten") is None


async def test_what_is_live_is_exported_whole(loop: Loop, models: Path) -> None:
    request = serving_pb2.ExportRequest(tenant=TENANT, task=TASK)
    response = await loop.call("Export", request)
    folder = loop.artifacts / response.directory
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(response.files)
    assert verify(folder) == []
    assert json.loads((folder / "gate.json").read_text())["candidate_id"] == "second"
    adapter, model = GGUFReader(folder / "gguf" / "adapter.gguf"), GGUFReader(folder / "gguf" / "model.Q8_0.gguf")
    assert {tensor.name for tensor in adapter.tensors} == {f"blk.15.ffn_down.weight.lora_{half}" for half in "ab"}
    assert len(model.tensors) == len(GGUFReader(models / "base.Q8_0.gguf").tensors)
    tokenizer = Tokenizer.from_file(str(folder / "merged" / "tokenizer.json"))
    assert tokenizer.decode(tokenizer.encode("What it knows").ids) == "What it knows"
    assert (folder / "LICENSE").exists()
    assert await loop.call("Export", request) == response  # again: the same


async def test_the_command_copies_what_is_live_and_says_what_is_not_proven(loop: Loop, tmp_path: Path) -> None:
    def export(task: str) -> Result:
        where = ["--target", loop.process.target, "--audit-target", "127.0.0.1:1", "--artifacts-dir", loop.artifacts]
        return CliRunner().invoke(main, ["export", TENANT, task, str(tmp_path / "out"), *map(str, where)])

    result = await asyncio.to_thread(export, TASK)
    assert result.exit_code == 0, result.output
    assert "Wrote candidate second to " in result.output
    assert "Not all of it is proven to be on record: Audit at 127.0.0.1:1 does not answer" in result.output
    assert verify(tmp_path / "out") == []
    result = await asyncio.to_thread(export, TASK)
    assert "is there already; name a new folder" in result.output
    shutil.rmtree(tmp_path / "out")
    result = await asyncio.to_thread(export, "nothing")
    assert (result.exit_code, result.output) == (1, f"Error: no specialist is live for {TENANT}/nothing\n")


async def test_a_lost_model_repository_is_written_again_under_the_same_numbers(
    loop: Loop, triton: tuple[str, Path], triton_pid: Callable[[], int]
) -> None:
    shutil.rmtree(triton[1] / MODEL)
    os.kill(triton_pid(), signal.SIGKILL)
    await loop.is_gone(MODEL, "2")
    await loop.answers(MODEL, "2")


async def test_rollbacks_lead_back_to_no_specialist(loop: Loop) -> None:
    assert await loop.roll_back() == "first"
    deployment = await loop.live("first")
    assert (deployment.reason, deployment.asked_by, deployment.previous) == ("a test", "ann", ())
    await loop.answers(deployment.model, deployment.model_version)
    assert await loop.roll_back() == ""
    assert (await loop.live("")).state == "none"
    await loop.is_gone(deployment.model, deployment.model_version)
    for method, request, code in (
        (
            "Rollback",
            serving_pb2.RollbackRequest(tenant=TENANT, task=TASK, reason="again"),
            grpc.StatusCode.FAILED_PRECONDITION,
        ),
        ("Export", serving_pb2.ExportRequest(tenant=TENANT, task=TASK), grpc.StatusCode.NOT_FOUND),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await loop.call(method, request)
        assert refused.value.code() == code


async def test_it_stops_when_it_is_told_to(loop: Loop) -> None:
    assert loop.process.stop() == 0


def _stubs(server: int, model: str = "") -> set[int]:
    """The processes of a model in Triton."""
    found = set()
    for each in psutil.Process(server).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "stub" in each.name() and f"/{model}" in " ".join(each.cmdline()):  # of a zombie, none is left
                found.add(each.pid)
    return found
