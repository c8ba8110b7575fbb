"""What the tables hold."""

import msgspec

from schemas.events import Feedback, Sensitivity


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
    """An edge case in the experts' queue.

    Attributes:
        partition: Where it came from.
        tenant: Whose.
        task: Of which task.
        value: Its place in the queue.
        sensitivity: Who may see it; of a row that does not say, the fewest.
        edge_case: The record's bytes; empty when done.
        outcome: What the experts said of it; empty while it is open.
    """

    partition: int
    tenant: str
    task: str
    value: float = 0.0
    sensitivity: Sensitivity = Sensitivity.RESTRICTED
    edge_case: bytes = b""
    outcome: str = ""


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """Items of one tenant and task that are done; those that were erased count as skipped."""

    labelled: int = 0
    skipped: int = 0
