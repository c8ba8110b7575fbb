"""What there is to learn, and how both sides of the gate are asked."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.bundle import Learning, Price, load_bundle
from schemas.events import BundlePublished, Deployment, Erasure, Message, Sensitivity, Specialist, Tool, ToolCall
from services.router.domain.answers import prompt
from services.router.domain.catalogue import Candidate
from services.router.domain.knowledge import NOTHING
from services.router.domain.request import Sampling
from services.runtime.errors import FailedPrecondition, Rejected
from services.trainer.dataset import Reason
from services.trainer.domain import Contestant, highest, incumbent, replayed
from services.trainer.state import Knowledge
from tests.unit.trainer.fakes import NOW, TASK, TENANT, TRACK, edge_case, label

ACCEPTS = Learning(labels_needed=1).accepts
BUNDLE = load_bundle(Path("deploy/bundle"))
DEPLOYMENT = Deployment(
    task_key=f"{TENANT}/{TASK}",
    tenant=TENANT,
    task=TASK,
    deployment_id="d1",
    state="live",
    candidate_id="candidate-1",
    model="specialist-customer-care-consumer-services",
    model_version="3",
    system_prompt="You know.",
    response_schema='{"type": "object"}',
    deployed_at=NOW,
    reason="better",
)


@pytest.fixture
def knowledge() -> Knowledge:
    knowledge = Knowledge()
    knowledge.take_edge_case(edge_case(1))
    return knowledge


def _ids(knowledge: Knowledge) -> list[str]:
    return [row.label_id for row in knowledge.rows(TENANT, TASK, "Answer.", ACCEPTS)]


@pytest.mark.parametrize("comes_late", [False, True])
def test_nothing_is_learned_from_a_request_that_was_erased(knowledge: Knowledge, comes_late: bool) -> None:
    erasure = Erasure(request_id="request-001", erasure_id="e", tenant="t", asked_at=label(1).labelled_at)
    if not comes_late:
        knowledge.take_label(label(1))
        assert _ids(knowledge) == [label(1).label_id]
    knowledge.take_erasure(msgspec.structs.replace(erasure, is_whole=False))
    assert _ids(knowledge) == ([] if comes_late else [label(1).label_id])
    knowledge.take_erasure(erasure)
    knowledge.take_label(label(1))
    assert _ids(knowledge) == []


def test_a_label_and_its_edge_case_make_a_row(knowledge: Knowledge) -> None:
    knowledge.take_label(label(1))
    (row,) = knowledge.rows(TENANT, TASK, "Answer.", ACCEPTS)
    assert [(turn.role, turn.content) for turn in row.messages] == [
        ("system", "Answer."),
        ("user", "Where is order 1?"),
    ]
    assert row.completion == '{"name": "track", "arguments": {"order": 1}}'
    assert (row.request_id, row.source, row.labelled_at_ms) == ("request-001", "expert-1", 1772323201000)
    assert row.tools[0]["parameters"]["required"] == ["order"]
    assert knowledge.rows(TENANT, "another", "Answer.", ACCEPTS) == []


@pytest.mark.parametrize(
    ("said", "rejected"),
    [("No idea.", "No idea."), ('{"name":"track","arguments":{"order":1}}', ""), ("", "")],
    ids=["another", "the same in other words", "nothing"],
)
def test_what_the_model_said_is_rejected_where_it_is_not_the_answer(
    knowledge: Knowledge, said: str, rejected: str
) -> None:
    knowledge.take_label(label(1, model_answer=said))
    (row,) = knowledge.rows(TENANT, TASK, "Answer.", ACCEPTS)
    assert row.rejected == rejected


@pytest.mark.parametrize("outcome", ["confirmed", "corrected"])
@pytest.mark.parametrize("answer", ["", " \n"])
def test_a_confirmed_answer_that_is_empty_is_left_out(knowledge: Knowledge, outcome: str, answer: str) -> None:
    knowledge.take_label(label(1, outcome=outcome, answer=answer))
    assert _ids(knowledge) == []


@pytest.mark.parametrize("outcome", ["unsafe", "skipped"])
def test_only_labels_that_say_what_was_right_are_learned(knowledge: Knowledge, outcome: str) -> None:
    knowledge.take_label(label(1, outcome=outcome))
    assert _ids(knowledge) == []


def test_of_two_labels_of_a_request_the_newer_counts_whichever_comes_first(knowledge: Knowledge) -> None:
    older, newer = label(1), label(1, label_id="newer", labelled_at=label(2).labelled_at)
    for order in ([older, newer], [newer, older]):
        for each in order:
            knowledge.take_label(each)
        assert _ids(knowledge) == ["newer"]
    knowledge.take_label(label(1, label_id="unsafe", outcome="unsafe", labelled_at=label(3).labelled_at))
    assert _ids(knowledge) == []


def test_a_skipped_label_takes_no_others_place(knowledge: Knowledge) -> None:
    knowledge.take_label(label(1))
    knowledge.take_label(label(1, label_id="skipped", outcome="skipped", labelled_at=label(2).labelled_at))
    assert _ids(knowledge) == ["label-001"]


def test_what_was_taken_back_or_is_in_dispute_is_not_learned(knowledge: Knowledge) -> None:
    first, second = label(1), label(1, label_id="second", expert="expert-2", kind="overlap", answer="It is lost.")
    taken_back = label(1, label_id="second", outcome="retracted", answer="", labelled_at=label(3).labelled_at)
    knowledge.take_label(first)
    knowledge.take_label(second)
    assert _ids(knowledge) == []
    knowledge.take_label(taken_back)
    assert _ids(knowledge) == ["label-001"]
    knowledge.take_label(msgspec.structs.replace(first, outcome="retracted"))
    assert _ids(knowledge) == []


@pytest.mark.parametrize(
    ("said", "reasons"),
    [
        ([{}], {}),
        ([{"outcome": "skipped", "answer": ""}], {}),
        ([{"outcome": "unsafe", "answer": ""}], {"label-001": Reason.UNSAFE}),
        ([{"outcome": "confirmed", "answer": " "}], {"label-001": Reason.EMPTY}),
        ([{"kind": "gold"}], {"label-001": Reason.GOLD}),
        ([{}, {"outcome": "retracted", "answer": ""}], {"label-001": Reason.RETRACTED}),
        ([{"request_id": "request-002"}], {"label-001": Reason.NOT_SHOWN}),
        ([{}, {"label_id": "newer", "labelled_at": label(2).labelled_at}], {"label-001": Reason.SUPERSEDED}),
        ([{}, {"label_id": "second", "expert": "expert-2"}], {"second": Reason.SUPERSEDED}),
        (
            [{}, {"label_id": "second", "expert": "expert-2", "answer": "It is lost."}],
            {"label-001": Reason.DISPUTED, "second": Reason.DISPUTED},
        ),
        (
            [{}, {"label_id": "second", "expert": "expert-2", "outcome": "escalated", "answer": ""}],
            {"label-001": Reason.ESCALATED, "second": Reason.ESCALATED},
        ),
        (
            [{}, {"label_id": "lead", "expert": "lead-1", "kind": "adjudication", "answer": "It is lost."}],
            {"label-001": Reason.SUPERSEDED},
        ),
    ],
)
def test_every_label_that_is_not_learned_from_has_its_reason(
    knowledge: Knowledge, said: list[dict[str, Any]], reasons: dict[str, Reason]
) -> None:
    for changes in said:
        knowledge.take_label(label(1, **changes))
    assert {each.label_id: each.reason for each in knowledge.left_out(TENANT, TASK, ACCEPTS)} == reasons
    assert not {*_ids(knowledge)} & {*reasons}
    assert knowledge.left_out(TENANT, "another", ACCEPTS) == []


@pytest.mark.parametrize("case_known", [True, False])
@pytest.mark.parametrize("label_known", [True, False])
def test_a_row_is_carried_on_where_it_cannot_be_made_anew(
    knowledge: Knowledge, case_known: bool, label_known: bool
) -> None:
    knowledge.take_label(label(1))
    (row,) = knowledge.rows(TENANT, TASK, "Answer.", ACCEPTS)
    now = Knowledge()
    if case_known:
        now.take_edge_case(edge_case(1))
    if label_known:
        now.take_label(label(1))
    assert now.has_expired(row) is not (case_known and label_known)
    assert [turn.content for turn in replayed(row, "Anew.").messages] == ["Anew.", "Where is order 1?"]
    now.take_label(label(1, outcome="retracted", answer=""))
    assert not now.has_expired(row)
    now.take_erasure(Erasure(request_id="request-001", erasure_id="e", tenant=TENANT, asked_at=NOW))
    assert not now.has_expired(row)


def test_a_label_whose_state_the_bundle_does_not_accept_is_left_out(knowledge: Knowledge) -> None:
    knowledge.take_label(label(1))
    assert [each.reason for each in knowledge.left_out(TENANT, TASK, ["agreed"])] == [Reason.NOT_ACCEPTED]


@pytest.mark.parametrize("changes", [{"kind": "gold"}, {"outcome": "escalated", "answer": ""}])
def test_gold_questions_and_what_waits_for_a_lead_are_not_learned(
    knowledge: Knowledge, changes: dict[str, Any]
) -> None:
    knowledge.take_label(label(1, **changes))
    assert _ids(knowledge) == []


def test_only_what_the_bundle_accepts_is_learned(knowledge: Knowledge) -> None:
    def learned() -> list[list[str]]:
        return [
            [row.label_id for row in knowledge.rows(TENANT, TASK, "Answer.", [accepted])]
            for accepted in ("provisional", "agreed", "adjudicated")
        ]

    knowledge.take_label(label(1))
    assert learned() == [["label-001"], [], []]
    knowledge.take_label(label(1, label_id="second", expert="expert-2", labelled_at=label(2).labelled_at))
    assert learned() == [[], ["label-001"], []]
    knowledge.take_label(label(1, label_id="third", expert="lead", kind="adjudication"))
    assert learned() == [[], [], ["third"]]


def test_a_label_waits_for_its_edge_case(knowledge: Knowledge) -> None:
    knowledge.take_label(label(2))
    assert _ids(knowledge) == []
    knowledge.take_edge_case(edge_case(2))
    assert _ids(knowledge) == ["label-002"]


@pytest.mark.parametrize(
    ("of_case", "of_label"),
    [(Sensitivity.RESTRICTED, Sensitivity.PUBLIC), (Sensitivity.PUBLIC, Sensitivity.RESTRICTED)],
)
def test_a_row_is_as_sensitive_as_the_higher_of_case_and_label(of_case: Sensitivity, of_label: Sensitivity) -> None:
    knowledge = Knowledge()
    knowledge.take_edge_case(edge_case(1, sensitivity=of_case))
    knowledge.take_label(label(1, sensitivity=of_label))
    assert knowledge.rows(TENANT, TASK, "Answer.", ACCEPTS)[0].sensitivity == "restricted"


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": (Message(role="narrator", content="Once."),)},
        {"messages": (Message(role="user", content="Hi"), Message(role="assistant", content="Hello"))},
        {"messages": (Message(role="system", content="Nothing was asked."),)},
        {
            "messages": (
                Message(role="assistant", tool_calls=(ToolCall(id="1", name="track", arguments="{"),)),
                Message(role="tool", content="lost"),
            )
        },
        {"tools": (Tool(name="track", parameters="not JSON"),)},
        {"tools": (Tool(name="track", parameters="[]"),)},
        {"tools": (Tool(name="track", parameters='{"type": "object", "properties": ["order"]}'),)},
    ],
)
def test_an_edge_case_that_nothing_can_be_learned_from_is_refused_at_the_edge(changes: dict[str, Any]) -> None:
    knowledge = Knowledge()
    with pytest.raises(Rejected, match="edge case request-001: messages or tools cannot be learned from"):
        knowledge.take_edge_case(edge_case(1, **changes))
    knowledge.take_label(label(1))
    assert _ids(knowledge) == []


def test_a_bundle_that_cannot_be_used_leaves_the_one_before_in_force() -> None:
    knowledge = Knowledge()
    knowledge.take_bundle(BundlePublished(version="b1", published_at=NOW, content=BUNDLE.model_dump_json()))
    with pytest.raises(Rejected, match="bundle b2 cannot be used"):
        knowledge.take_bundle(BundlePublished(version="b2", published_at=NOW, content="{}"))
    assert (knowledge.bundle, knowledge.bundle_version) == (BUNDLE, "b1")


def test_a_task_that_does_not_learn_is_refused() -> None:
    task = BUNDLE.tasks[TASK].model_copy(update={"learning": None})
    knowledge = Knowledge(bundle=BUNDLE.model_copy(update={"tasks": {TASK: task}}), bundle_version="b1")
    with pytest.raises(FailedPrecondition, match=rf"tasks\.{TASK}\.learning is not set in bundle b1"):
        knowledge.task(TENANT, TASK)


@pytest.mark.parametrize("deployment", [None, DEPLOYMENT])
def test_the_incumbent_is_asked_as_the_router_asks_it(deployment: Deployment | None) -> None:
    """Of all that a row keeps: the application's own system message, an earlier call, the functions on offer."""
    messages = (
        Message(role="system", content="We sell books."),
        Message(role="user", content="Where is it?"),
        Message(role="assistant", tool_calls=(ToolCall(id="1", name="track", arguments='{"order": 1}'),)),
        Message(role="tool", content="There is no such order.", tool_call_id="1"),
        Message(role="user", content="Number 2, then."),
    )
    knowledge = Knowledge()
    knowledge.take_edge_case(edge_case(1, messages=messages))
    knowledge.take_label(label(1))
    (row,) = knowledge.rows(TENANT, TASK, "Answer.", ACCEPTS)
    task, small = BUNDLE.tasks[TASK], BUNDLE.models["small"]
    candidate = (
        Candidate("small", "small", small.served_as, "", "small", small.max_tokens)
        if deployment is None
        else Candidate("s", "specialist", deployment.model, "3", "specialist", task.max_tokens, deployment)
    )
    assert incumbent(BUNDLE, task, deployment).question(row) == prompt(
        candidate, task, messages, [TRACK], NOTHING, Sampling()
    )


def test_the_incumbent_is_the_live_specialist_or_else_the_cheapest_generic_model() -> None:
    task = BUNDLE.tasks[TASK]
    assert incumbent(BUNDLE, task, DEPLOYMENT).name == "candidate-1"
    gone = Deployment(
        task_key=f"{TENANT}/{TASK}",
        tenant=TENANT,
        task=TASK,
        deployment_id="d2",
        state="none",
        deployed_at=NOW,
        reason="rolled back",
    )
    small = BUNDLE.models["small"]
    large = small.model_copy(update={"tier": "large"})
    both = BUNDLE.model_copy(update={"models": {"a": large, "b": small}})
    for deployment in (None, gone):
        assert incumbent(both, task, deployment).name == "b"
    neither = BUNDLE.model_copy(update={"models": {}})
    with pytest.raises(FailedPrecondition, match="no generic model"):
        incumbent(neither, task, None)


def test_a_text_task_is_asked_without_a_schema(knowledge: Knowledge) -> None:
    knowledge.take_label(label(1))
    (row,) = knowledge.rows(TENANT, TASK, "Answer.", ACCEPTS)
    asked = Contestant(
        name="c",
        model="m",
        version="1",
        prompt="p",
        schema="",
        specialist=True,
        function_call=False,
        max_tokens=9,
        price=Price(),
    ).question(row)
    assert asked.sampling == {"temperature": 0, "max_tokens": 9}


def test_the_highest_of_some_sensitivities() -> None:
    assert highest([]) is Sensitivity.PUBLIC
    assert highest(["internal", "restricted", "public"]) is Sensitivity.RESTRICTED


def test_a_canary_is_not_the_incumbent_before_it_has_passed() -> None:
    task, canary = BUNDLE.tasks[TASK], msgspec.structs.replace(DEPLOYMENT, share=0.1)
    before = Specialist(
        candidate_id="candidate-0",
        model_version="2",
        adapter_path="candidate-0/adapter",
        system_prompt="Answer as before.",
        response_schema="",
        sensitivity=Sensitivity.PUBLIC,
    )
    asked = incumbent(BUNDLE, task, msgspec.structs.replace(canary, before=(before,)))
    assert (asked.name, asked.version, asked.prompt) == ("candidate-0", "2", "Answer as before.")
    assert not incumbent(BUNDLE, task, canary).specialist
