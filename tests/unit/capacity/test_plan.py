import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gyre.capacity.costs import Costs, load_costs
from gyre.capacity.limits import cost, engine_seconds, people
from gyre.capacity.load import Load, load_of, presets
from gyre.capacity.plan import Part, Plan, plan, replicas

MEASURED = load_costs()
# What a machine of the day measures moves where an installation ends; these tests are not about that.
COSTS = MEASURED.model_copy(
    update={"requests": MEASURED.requests.model_copy(update={"follow_us": {"context": 100.0, "router": 40.0}})}
)


def asked(per_second: float, **changes: object) -> Load:
    return load_of("five-million-an-hour", {"requests": {"count": per_second, "per": "second"}, **changes})


def part(found: Plan, name: str) -> Part:
    (one,) = (each for each in found.parts if each.name == name)
    return one


def with_requests(**changes: object) -> Costs:
    return COSTS.model_copy(update={"requests": COSTS.requests.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("per_second", "seconds", "utilisation", "count"),
    [
        (1, 0.001, 0.7, 2),  # one would do, but it may go
        (700, 0.01, 0.7, 10),
        (701, 0.01, 0.7, 11),
        (110, 0.01, 0.9, 3),  # of two, the one that is left would have more than it can take
    ],
)
def test_as_many_processes_as_keep_to_the_utilisation_and_can_do_without_one(
    per_second: float, seconds: float, utilisation: float, count: int
) -> None:
    assert replicas(per_second, seconds, utilisation) == count


def test_what_a_process_follows_leaves_it_less() -> None:
    assert replicas(700, 0.01, 0.7, following=0.2) == 14
    with pytest.raises(ValueError, match=r"following takes 0\.70 of a process"):
        replicas(1, 0.001, 0.7, following=0.7)


@given(st.floats(1, 1e5), st.floats(1e-4, 0.1), st.floats(0.2, 0.95))
def test_none_is_busier_than_allowed_and_one_fewer_would_not_do(
    per_second: float, seconds: float, utilisation: float
) -> None:
    count = replicas(per_second, seconds, utilisation)
    offered = per_second * seconds
    assert offered / count <= utilisation * (1 + 1e-6)
    assert offered / (count - 1) < 1
    assert count == 2 or offered / (count - 1) > utilisation * (1 - 1e-6) or offered / max(1, count - 2) >= 1


@settings(deadline=None)
@given(st.floats(1, 3e6))
def test_twice_the_load_never_takes_less(per_second: float) -> None:
    here, twice = plan(asked(per_second), COSTS), plan(asked(2 * per_second), COSTS)
    assert twice.cells >= here.cells
    for each in here.parts:
        # Cells are evened out, so within one there may be one process fewer; of all there are not.
        assert part(twice, each.name).count * twice.cells >= each.count * here.cells * 0.9
    assert twice.kafka_disk_bytes_per_day * twice.cells == pytest.approx(2 * here.kafka_disk_bytes_per_day * here.cells)


@settings(deadline=None)
@given(st.floats(1, 3000))
def test_every_part_keeps_to_the_utilisation(per_second: float) -> None:
    found = plan(asked(per_second), COSTS)
    assert all(each.utilisation <= found.load.utilisation + 1e-9 for each in found.parts)
    assert all(each.wait is None or math.isfinite(each.wait.mean_seconds) for each in found.parts)


def test_a_machine_twice_as_fast_takes_half_the_processes() -> None:
    requests = COSTS.requests
    halved = {
        field: {name: each / 2 for name, each in getattr(requests, field).items()}
        for field in ("plain_ms", "streamed_ms", "token_us", "follow_us")
    }
    load = asked(1500)
    here, faster = plan(load, COSTS), plan(load, with_requests(**halved))
    for name in ("router", "governance"):
        assert part(faster, name).count == pytest.approx(part(here, name).count / 2, abs=1)


def test_longer_texts_and_streams_cost_as_much_more_as_they_were_measured_to() -> None:
    costs = with_requests(
        tokens=50,
        plain_ms={**COSTS.requests.plain_ms, "router": 4.0},
        streamed_ms={**COSTS.requests.streamed_ms, "router": 6.0},
        token_us={**COSTS.requests.token_us, "router": 2.0},
    )
    task = {"share": 1, "prompt_tokens": 30, "answer_tokens": 20}
    plain = asked(1, tasks={"a": task})
    assert cost(plain, costs, "router") == pytest.approx(0.004)
    assert cost(asked(1, tasks={"a": {**task, "streamed": 0.5}}), costs, "router") == pytest.approx(0.005)
    assert cost(asked(1, tasks={"a": {**task, "prompt_tokens": 1030}}), costs, "router") == pytest.approx(0.006)


def test_an_engine_has_a_unit_for_each_second_of_work_and_its_slots_share_a_line() -> None:
    engine = COSTS.engines["llama-cpp-135m"]
    task = {"share": 1, "prompt_tokens": 43, "context_tokens": 43, "answer_tokens": 69}
    load = asked(10, tasks={"a": task}, engines={"llama-cpp-135m": 1})
    assert engine.prompt_tokens_per_second is not None
    assert engine_seconds(load, COSTS, "llama-cpp-135m") == pytest.approx(
        86 / engine.prompt_tokens_per_second + 69 / engine.answer_tokens_per_second
    )
    cores = part(plan(load, COSTS), "llama-cpp-135m")
    wanted = load.peak_per_second * engine_seconds(load, COSTS, "llama-cpp-135m") / load.utilisation
    assert wanted <= cores.count < wanted + 1


def test_what_one_installation_cannot_do_is_shared_out_to_several() -> None:
    found = plan(load_of("million-a-second"), COSTS)
    first = min((limit for limit in found.limits if limit.by_cells), key=lambda limit: limit.per_second)
    assert found.cells == math.ceil(1e6 / first.per_second)
    assert found.cell.busiest_per_second <= first.per_second
    assert found.cell.busiest_per_second * found.cells == pytest.approx(1e6)


def test_context_stops_where_reading_every_interaction_takes_half_of_what_a_replica_may_be_busy() -> None:
    costs = with_requests(follow_us={"context": 100.0, "router": 50.0})
    (context,) = (limit for limit in plan(asked(10, utilisation=0.7), costs).limits if limit.part == "context")
    assert context.per_second == pytest.approx(3500)


def test_a_limit_of_experts_moves_with_what_is_sent_to_them() -> None:
    def stops(share: float) -> dict[str, float]:
        tasks = {"a": {"share": 1, "prompt_tokens": 10, "answer_tokens": 10, "experts": share}}
        return {limit.part: limit.per_second for limit in plan(asked(10, tasks=tasks), COSTS).limits}

    assert stops(0.1)["triage"] == pytest.approx(stops(0.05)["triage"] / 2)
    assert stops(0)["triage"] == math.inf


def test_applications_with_limits_have_routers_read_one_anothers_totals() -> None:
    def usage(applications: int) -> float:
        found = plan(asked(10, limited_applications=applications), COSTS)
        return next(limit.per_second for limit in found.limits if limit.part == "router.usage.v1")

    assert usage(0) == math.inf
    assert usage(4) == pytest.approx(usage(1) / 4)


def test_experts_are_counted_as_people() -> None:
    tasks = {"a": {"share": 1, "prompt_tokens": 1, "answer_tokens": 1, "experts": 0.1}}
    load = load_of(
        "retailer",
        {"requests": {"count": 36000, "per": "day"}, "tasks": tasks, "expert_seconds": 30, "expert_hours": 6},
    )
    assert people(load) == pytest.approx(5)


def test_topics_hold_as_many_days_as_they_are_made_for_in_as_many_copies() -> None:
    kept = COSTS.requests.plain_kept.model_copy(
        update={"topic_bytes": {"router.interactions.v1": 2000.0, "router.usage.v1": 100.0}}
    )
    costs = with_requests(plain_kept=kept, streamed_kept=kept, tokens=1e9)
    (topic,) = plan(load_of("retailer", {"kafka_copies": 3}), costs).topics  # usage is state, and holds no history
    assert topic.disk_bytes == pytest.approx(50_000 * 2000 * 30 * 3)


def test_edge_cases_are_as_many_as_experts_are_asked_about() -> None:
    def bytes_of(share: float) -> float:
        tasks = {"a": {"share": 1, "prompt_tokens": 10, "answer_tokens": 10, "experts": share}}
        found = plan(asked(10, tasks=tasks), COSTS)
        return sum(topic.bytes_per_request for topic in found.topics if topic.name == "triage.edge-cases.v1")

    assert bytes_of(0.2) == pytest.approx(COSTS.requests.plain_kept.topic_bytes["triage.edge-cases.v1"])
    assert bytes_of(0.02) == pytest.approx(bytes_of(0.2) / 10)


def test_audit_and_clickhouse_take_every_record_that_a_request_leads_to() -> None:
    kept = COSTS.requests.plain_kept.model_copy(
        update={"topic_records": {"router.interactions.v1": 1.0, "router.feedback.v1": 0.5}}
    )
    costs = with_requests(plain_kept=kept, streamed_kept=kept)
    assert cost(asked(1), costs, "audit") == pytest.approx(1.5 * COSTS.records.audit_us / 1e6)
    assert cost(asked(1), costs, "clickhouse") == pytest.approx(1.5 * COSTS.records.clickhouse_us / 1e6)


def test_partitions_are_twice_the_processes_that_share_them() -> None:
    found = plan(asked(1500), COSTS)
    most = max(part(found, "audit").count, part(found, "triage").count)
    by_name = {topic.name: topic.partitions for topic in found.topics}
    assert by_name["router.interactions.v1"] == max(4, 2 * most)
    assert by_name.get("audit.checkpoints.v1", 1) == 1


def test_an_engine_that_the_costs_do_not_have_is_named_beside_those_that_they_have() -> None:
    with pytest.raises(ValueError, match=r"engines.abacus: wanted one of llama-cpp-135m, vllm-8b-a100"):
        plan(load_of("retailer", {"engines": {"abacus": 1}}), COSTS)


@pytest.mark.parametrize("name", presets())
def test_each_load_that_comes_with_it_has_a_plan(name: str) -> None:
    found = plan(load_of(name), MEASURED)
    assert found.bottleneck == min(found.limits, key=lambda limit: limit.per_second)
    assert {each.name for each in found.parts} >= {"router", "governance", "context", "audit", "triage", "kafka"}
