"""What the topics say: the bundle, what is live, and what there is to learn."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import msgspec

from schemas.bundle import Bundle, Learning, Task
from schemas.events import BundlePublished, Deployment, EdgeCase, Erasure, Label
from schemas.labels import JUDGEMENTS, Kind, Outcome, Standing, State, standing
from schemas.prompts import decodable_schema
from services.runtime.bundles import NOTHING_PUBLISHED, bundle_of
from services.runtime.errors import FailedPrecondition, NotFound, Rejected
from services.trainer.dataset import LabelledRow, LeftOut, Reason
from services.trainer.domain import row, shown, tool_document


@dataclass
class Knowledge:
    """What the topics say: the bundle, what is live, and every edge case with all that experts said of it."""

    bundle: Bundle | None = None
    bundle_version: str = ""
    deployments: dict[tuple[str, str], Deployment] = field(default_factory=dict)
    edge_cases: dict[str, EdgeCase] = field(default_factory=dict)
    # By task, then by request. All records are kept, for none is the last word: another may take a label back.
    labels: defaultdict[tuple[str, str], dict[str, set[Label]]] = field(default_factory=lambda: defaultdict(dict))
    standings: defaultdict[tuple[str, str], dict[str, Standing]] = field(default_factory=lambda: defaultdict(dict))
    erased: set[str] = field(default_factory=set)  # requests that nothing is to be learned from

    def take_bundle(self, published: BundlePublished) -> None:
        """Put a bundle in force.

        Raises:
            Rejected: It cannot be used.
        """
        self.bundle = bundle_of(published)
        self.bundle_version = published.version

    def take_deployment(self, deployment: Deployment) -> None:
        """Remember what is live for a task."""
        self.deployments[deployment.tenant, deployment.task] = deployment

    def take_edge_case(self, case: EdgeCase) -> None:
        """Remember an edge case, whose label may come; of one that repeats another none will.

        Raises:
            Rejected: It is not a request that a model could learn to answer; the message names the field.
        """
        if case.same_as:
            return
        try:
            shown(case, prompt="")
            for tool in case.tools:
                decodable_schema(tool_document(tool)["parameters"])
        except (ValueError, TypeError, AttributeError, msgspec.MsgspecError) as error:
            raise Rejected(f"edge case {case.request_id}: messages or tools cannot be learned from: {error}") from error
        if case.request_id not in self.erased:
            self.edge_cases[case.request_id] = case

    def take_label(self, label: Label) -> None:
        """Remember what an expert said of a request, and what all that was said of it comes to."""
        if label.request_id in self.erased:
            return
        task = label.tenant, label.task
        records = self.labels[task].setdefault(label.request_id, set())
        records.add(label)
        self.standings[task][label.request_id] = standing(records)

    def take_erasure(self, erasure: Erasure) -> None:
        """Forget a request, and what may still come of it."""
        if erasure.is_whole:
            self.erased.add(erasure.request_id)
            self.edge_cases.pop(erasure.request_id, None)
            for task in self.labels:
                self.labels[task].pop(erasure.request_id, None)
                self.standings[task].pop(erasure.request_id, None)

    def task(self, tenant: str, task: str) -> tuple[Task, Learning]:
        """Return a task of the bundle and how it learns.

        Raises:
            NotFound: The bundle has no such task.
            FailedPrecondition: It does not learn, or there is no bundle.
        """
        if self.bundle is None:
            raise FailedPrecondition(NOTHING_PUBLISHED)
        found = self.bundle.tasks.get(task)
        if found is None or found.tenant != tenant:
            raise NotFound(f"task: {tenant}/{task} is not in bundle {self.bundle_version}")
        if found.learning is None:
            raise FailedPrecondition(f"tasks.{task}.learning is not set in bundle {self.bundle_version}")
        return found, found.learning

    def rows(self, tenant: str, task: str, prompt: str, accepts: Collection[str]) -> list[LabelledRow]:
        """Return what can be learned from for a task, as a specialist with this prompt learns it."""
        standings = self.standings[tenant, task]
        return [
            row(self.edge_cases[label.request_id], label, standings[label.request_id].state, prompt)
            for label in self.learnable(tenant, task, accepts)
        ]

    def learnable(self, tenant: str, task: str, accepts: Collection[str]) -> Iterator[Label]:
        """Yield the labels of a task that `rows` are made of: those that count, of edge cases that are known.

        Args:
            tenant: Whose.
            task: What it is for.
            accepts: States of a request whose label is learned from (`schemas.bundle.Learning.accepts`).
        """
        for said in self.standings[tenant, task].values():
            if said.label is not None and self._reason_against(said.label, said, accepts) is None:
                yield said.label

    def has_expired(self, row: LabelledRow) -> bool:
        """Say whether topics hold no longer what a row was made of, and nothing that has been said against it since."""
        said = self.standings[row.tenant, row.task].get(row.request_id)
        if said is None:
            return row.request_id not in self.erased
        counts = said.label is not None and said.label.label_id == row.label_id
        return counts and row.request_id not in self.edge_cases

    def left_out(self, tenant: str, task: str, accepts: Collection[str]) -> list[LeftOut]:
        """Return the labels of a task of which `rows` are not made, and why; what was skipped says nothing to learn."""
        found = {}
        for request_id, records in self.labels[tenant, task].items():
            said = self.standings[tenant, task][request_id]
            taken_back = {each.label_id for each in records if each.outcome == Outcome.RETRACTED}
            for label in records:
                if label.label_id in taken_back:
                    reason: Reason | None = Reason.RETRACTED
                elif label.outcome in {*JUDGEMENTS, Outcome.ESCALATED}:
                    reason = self._reason_against(label, said, accepts)
                else:
                    reason = None
                if reason is not None:
                    found[label.label_id] = LeftOut(request_id, label.label_id, reason)
        return list(found.values())

    def _reason_against(self, label: Label, said: Standing, accepts: Collection[str]) -> Reason | None:
        """Return why a label is not learned from, given what the labels of its request come to."""
        if label.kind == Kind.GOLD:
            return Reason.GOLD
        if said.label is None:
            return Reason.ESCALATED if said.state == State.ESCALATED else Reason.DISPUTED
        if label.label_id != said.label.label_id:
            return Reason.SUPERSEDED
        if label.request_id not in self.edge_cases:
            return Reason.NOT_SHOWN
        if label.outcome == Outcome.UNSAFE:
            return Reason.UNSAFE
        if said.state not in accepts:
            return Reason.NOT_ACCEPTED
        # Who confirms that a request was rightly refused shows no answer to learn.
        return None if label.answer.strip() else Reason.EMPTY
