"""What audit tells; and dead letters, which any service may send."""

from datetime import datetime

import msgspec

from schemas.events.base import Event


class Checkpoint(Event, frozen=True, kw_only=True):
    """A signed root over all rows of a topic partition, up to the last that there were."""

    chain: str  # topic/partition
    first_offset: int  # of the rows since the checkpoint before
    last_offset: int
    root: bytes
    signature: bytes  # of the first key; the note has all
    key_id: str
    signed_at: datetime
    tree_size: int = 0  # rows
    note: str = ""  # what was signed, with the signatures, as schemas/ledger/notes.py has it
    # The roots of the blocks of rows completed since the checkpoint before, and the number of the first of them.
    first_block: int = 0
    blocks: tuple[bytes, ...] = ()


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class Erasure(Event, frozen=True, kw_only=True):
    """Somebody wished to be forgotten: what was erased of one request. It says where it stood, never what it was."""

    request_id: str
    erasure_id: str  # of the wish, which may concern many requests
    tenant: str
    asked_at: datetime
    # Everything of the request is to be dropped wherever it is; else only feedback, on a request of somebody else.
    is_whole: bool = True
    rows: tuple[Place, ...] = ()
    # What had learned from the request, or was measured by it, and wants to be made anew.
    dataset_ids: tuple[str, ...] = ()
    candidate_ids: tuple[str, ...] = ()
    asked_by: str = ""  # who had it erased


class Drift(Event, frozen=True, kw_only=True):
    """A change in what a task's traffic or answers look like, or an objective that is being missed."""

    task_key: str  # tenant/task
    tenant: str
    task: str  # empty: of all the tenant's, or of an application's
    model: str  # empty: whichever answers
    measure: str
    method: str
    statistic: float
    threshold: float
    window_start: datetime  # from when, probably
    detected_at: datetime  # the time of the request that it showed at
    model_version: str = ""
    application: str = ""  # whose objective it is; empty: a task's
    aspect: str = ""  # input, output, service or objective
    state: str = "detected"  # of objectives firing, then cleared
    # What the measure was on average, and is; of one whose values are names, the share of the one that moved most.
    before: float = 0.0
    after: float = 0.0
    subject: str = ""  # that name
    requests: int = 0  # seen since what is ordinary began to be learned


# The hop of what a replay leaves in the dead-letter topic: a letter about a letter.
REPLAY_HOP = "gyre dlq replay"


class DeadLetter(Event, frozen=True, kw_only=True):
    """A record that could not be handled, whole, with the reason."""

    topic: str
    partition: int
    offset: int
    hop: str  # the service that gave up on it
    reason: str
    failed_at: datetime
    key: bytes = b""
    value: bytes = b""
