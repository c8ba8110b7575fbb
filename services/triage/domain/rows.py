"""What triage keeps."""

import msgspec

from schemas.events import EdgeCase, Feedback, Label
from schemas.labels import SETTLED, Kind, Outcome, Standing, State, standing


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one request, so that it is decided about once, and again when feedback comes late.

    Attributes:
        partition: Where it came from.
        decided: Its interaction has been seen; until then there is only feedback.
        flagged: It went to the experts.
        interaction: The record's bytes, kept while feedback may still change the decision.
        feedback: What was said of it.
        erased: It is to be forgotten: nothing is decided about it, and nothing kept, whatever still comes.
    """

    partition: int
    decided: bool = False
    flagged: bool = False
    interaction: bytes = b""
    feedback: tuple[Feedback, ...] = ()
    erased: bool = False


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """An edge case before the experts, and what they said of it; either may be read first.

    Attributes:
        edge_case: None until it is read, and when it was erased.
        labels: All records of labels of it, each once.
        repeats: How often it was asked again, of which experts are not asked.
        erased: Nothing more is wanted of it, whatever still comes.
    """

    edge_case: EdgeCase | None = None
    labels: tuple[Label, ...] = ()
    repeats: int = 0
    erased: bool = False

    @property
    def standing(self) -> Standing:
        """What the labels come to."""
        return standing(self.labels)

    @property
    def skipped(self) -> bool:
        """Whether an expert found it not worth a label, and nobody gave one."""
        skips = [each for each in self._kept() if each.outcome == Outcome.SKIPPED and each.kind != Kind.GOLD]
        return bool(skips) and self.standing.state is State.OPEN

    @property
    def wanted(self) -> Kind | None:
        """As what the next judgement is wanted; None where it is done."""
        if self.edge_case is None or self.erased or self.edge_case.imported or self.skipped:
            return None
        state = self.standing.state
        if state is State.OPEN:
            return Kind.FIRST
        if state is State.PROVISIONAL and self.edge_case.overlap:
            return Kind.OVERLAP
        return Kind.ADJUDICATION if state in (State.DISPUTED, State.ESCALATED) else None

    @property
    def askable(self) -> Kind | None:
        """As what an expert may be asked about it: as it is wanted, or, where it is settled what is right, as gold."""
        if self.wanted is not None or self.edge_case is None or self.edge_case.imported or self.erased:
            return self.wanted
        return Kind.GOLD if self.standing.state in SETTLED else None

    @property
    def asked(self) -> frozenset[str]:
        """Who has said something of it, if only that it is to be skipped, and has not taken that back."""
        return frozenset(each.expert for each in self._kept())

    def _kept(self) -> list[Label]:
        taken_back = {label.label_id for label in self.labels if label.outcome == Outcome.RETRACTED}
        return [label for label in self.labels if label.label_id not in taken_back]
