"""One request's way through the loop, as the records that it leaves."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemas.bundle import load_bundle
from schemas.events import (
    Attempt,
    BundlePublished,
    Candidate,
    Deployment,
    Drift,
    EdgeCase,
    Erasure,
    Event,
    Feedback,
    Finding,
    GateAnswer,
    Interaction,
    Label,
    Message,
    Outcome,
    Place,
    Release,
    ReviewAction,
    RouteCandidate,
    RouteEstimate,
    Sensitivity,
    Shadow,
    Signal,
    Stage,
    Tool,
    ToolCall,
)
from schemas.topics import Topic

BEGIN = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
SEVEN = ("data-prep", "governance", "context-stitching", "policy", "routing", "monitoring", "audit")


def interaction(request_id: str, phase: str = "finished", candidate_id: str = "", minutes: int = 0) -> Interaction:
    return Interaction(
        request_id=request_id,
        phase=phase,
        tenant="customer-care",
        application="helpdesk",
        task="consumer-services",
        user="u-17",
        received_at=BEGIN + timedelta(minutes=minutes),
        finished_at=BEGIN + timedelta(minutes=minutes, seconds=1),
        streamed=phase == "opened",
        messages=(Message(role="user", content="Any concerts in Zürich tonight?"),),
        tools=(Tool(name="find_events", description="Finds events", parameters='{"type": "object"}'),),
        answer='{"name": "find_events", "arguments": {"city": "Zürich"}}' if phase == "finished" else "",
        tool_calls=(ToolCall(id="1", name="find_events", arguments='{"city": "Zürich"}'),),
        finish_reason="tool_calls" if phase == "finished" else "",
        model="specialist-customer-care-consumer-services" if candidate_id else "small",
        model_version="1",
        tier="specialist" if candidate_id else "small",
        candidate_id=candidate_id,
        candidates=(
            RouteCandidate(model="small", tier="small", cleared=True, live=True, chosen=True, reason="cheapest"),
            RouteCandidate(model="large", tier="large", cleared=False, live=True, chosen=False, reason="not cleared"),
        ),
        attempts=(
            Attempt(model="other", tier="small", outcome="failed", reason="gone", start_us=700, duration_us=900),
            Attempt(model="small", tier="small", outcome="answered", start_us=1600, duration_us=139_000),
        ),
        estimates=(
            RouteEstimate(model="small", chance=0.7, price=0.2, seconds=1.5),
            RouteEstimate(model="large", chance=0.8, price=2.0),
        ),
        propensity=0.99,
        bundle_version="b-1",
        sensitivity=Sensitivity.INTERNAL,
        findings=(Finding(direction="input", kind="email", action="mask", start=3, end=9),),
        releases=(Release(start=0, end=56, verdict="pass", bundle_version="b-1"),) if phase == "finished" else (),
        prompt_tokens=40,
        completion_tokens=12,
        mean_logprob=-0.2,
        first_token_us=90_000,
        total_us=150_000,
        stages=(
            *(Stage(name=name, start_us=100 * i, duration_us=100) for i, name in enumerate(SEVEN)),
            Stage(name="inference", start_us=700, duration_us=140_000),
        ),
    )


def story() -> tuple[str, list[tuple[Topic, Event]]]:
    """The id of a request, and everything on record from its answer to an answer by the model that learned from it."""
    first, later, candidate = str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid4())
    shared = {
        "tenant": "customer-care",
        "task": "consumer-services",
        "bundle_version": "b-1",
        "sensitivity": Sensitivity.INTERNAL,
    }
    bundle = load_bundle(Path("deploy/bundle"))
    published = BundlePublished(version=bundle.version, published_at=BEGIN, content=bundle.model_dump_json())
    return first, [
        (Topic.BUNDLES, published),
        (Topic.INTERACTIONS, interaction(first)),
        (
            Topic.FEEDBACK,
            Feedback(
                feedback_id=str(uuid.uuid4()),
                request_id=first,
                tenant="customer-care",
                application="helpdesk",
                given_at=BEGIN + timedelta(minutes=1),
                source="explicit",
                kind="rating",
                rating=0.0,
            ),
        ),
        (
            Topic.SHADOWS,
            Shadow(
                request_id=first,
                tenant="customer-care",
                task="consumer-services",
                candidate_id=candidate,
                model="specialist-customer-care-consumer-services",
                model_version="2",
                answered_at=BEGIN + timedelta(seconds=2),
                answer="right",
                finish_reason="stop",
                attempts=(
                    Attempt(model="specialist", tier="specialist", outcome="answered", start_us=5, duration_us=80_000),
                ),
                bundle_version="b-1",
                sensitivity=Sensitivity.INTERNAL,
                completion_tokens=9,
                sum_logprob=-0.3,
            ),
        ),
        (
            Topic.EDGE_CASES,
            EdgeCase(
                request_id=first,
                flagged_at=BEGIN + timedelta(minutes=2),
                score=0.9,
                threshold=0.7,
                explored=False,
                propensity=1.0,
                signals=(Signal(name="mean_logprob", value=-2.0, explanation="unsure of its words"),),
                messages=(Message(role="user", content="Any concerts in Zürich tonight?"),),
                **shared,
            ),
        ),
        (
            Topic.EDGE_CASES,
            EdgeCase(
                request_id=str(uuid.uuid4()),
                flagged_at=BEGIN + timedelta(minutes=2),
                score=0.9,
                threshold=0.7,
                explored=False,
                propensity=1.0,
                same_as=first,
                messages=(Message(role="user", content="any concerts in Zürich tonight"),),
                **shared,
            ),
        ),
        (
            Topic.LABELS,
            Label(
                label_id=str(uuid.uuid4()),
                request_id=first,
                expert="e-1",
                labelled_at=BEGIN + timedelta(minutes=3),
                outcome="corrected",
                answer="right",
                model_answer="wrong",
                distance=0.4,
                seconds_spent=12.5,
                guideline_version=bundle.tasks["consumer-services"].guideline_version,
                **shared,
            ),
        ),
        (
            Topic.ACTIONS,
            ReviewAction(
                action_id=str(uuid.uuid4()),
                at=BEGIN + timedelta(minutes=3),
                expert="e-1",
                action="submitted",
                request_id=first,
                tenant="customer-care",
                task="consumer-services",
                detail="corrected",
            ),
        ),
        (
            Topic.OUTCOMES,
            Outcome(
                request_id=first,
                found_at=BEGIN + timedelta(minutes=3),
                source="label",
                success=0.0,
                propensity=0.5,
                model="small",
                model_version="1",
                tier="small",
                sum_logprob=-2.5,
                question="Any concerts in Zürich tonight?",
                turns=1,
                tools=1,
                **shared,
            ),
        ),
        (
            Topic.CANDIDATES,
            Candidate(
                candidate_id=candidate,
                run_id=str(uuid.uuid4()),
                created_at=BEGIN + timedelta(minutes=4),
                verdict="promote",
                base_model="base",
                adapter_path=f"adapters/{candidate}",
                system_prompt="",
                dataset_id="d-1",
                training_request_ids=(first, str(uuid.uuid4())),
                holdout_request_ids=(str(uuid.uuid4()),),
                candidate_accuracy=0.8,
                incumbent_accuracy=0.5,
                candidate_answers=(GateAnswer(right=True, sum_logprob=-0.5), GateAnswer(right=False)),
                gain=0.3,
                gain_low=0.1,
                gain_high=0.5,
                **shared,
            ),
        ),
        (
            Topic.DEPLOYMENTS,
            Deployment(
                task_key="customer-care/consumer-services",
                tenant="customer-care",
                task="consumer-services",
                deployment_id=str(uuid.uuid4()),
                state="live",
                candidate_id=candidate,
                model="specialist-customer-care-consumer-services",
                model_version="1",
                deployed_at=BEGIN + timedelta(minutes=5),
                reason="promoted",
                gate_items=1,
                gate_accuracy=0.8,
                incumbent="small",
                incumbent_accuracy=0.5,
            ),
        ),
        (
            Topic.ERASURES,
            # Of a row that does not exist: the others are still to be looked at.
            Erasure(
                request_id=first,
                erasure_id=str(uuid.uuid4()),
                tenant="customer-care",
                asked_at=BEGIN + timedelta(days=1),
                rows=(Place(topic=Topic.LABELS, partition=0, offset=10**9),),
                dataset_ids=("d-1",),
                candidate_ids=(candidate,),
            ),
        ),
        (Topic.INTERACTIONS, interaction(later, candidate_id=candidate, minutes=6)),
        (
            Topic.DRIFT,
            Drift(
                task_key="customer-care/consumer-services",
                tenant="customer-care",
                task="consumer-services",
                model="",
                measure="latency",
                aspect="service",
                method="conformal e-detector",
                statistic=2e6,
                threshold=1.4e6,
                window_start=BEGIN + timedelta(minutes=1),
                detected_at=BEGIN + timedelta(minutes=10),
                before=0.1,
                after=0.2,
                requests=5000,
            ),
        ),
    ]
