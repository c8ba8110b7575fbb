"""Who may do what with which topic. What Kafka is told to allow is made of this: `gyre kafka acls`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from schemas.topics import Topic

# Who runs `gyre` to publish bundles, import labels and send dead letters back.
OPERATOR = "operator"
EVERY_TOPIC = tuple(Topic)


@dataclass(frozen=True)
class Access:
    """What one identity does at Kafka, and all that it may.

    Attributes:
        reads: Topics that it reads.
        writes: Topics that it writes.
        reads_letters: Topics whose dead letters it reads.
        writes_letters: Topics whose dead letters it writes.
        groups: Its consumer groups.
        transactions: What its transactional ids begin with; empty: it has none.
        own: What the topics begin with that it makes, writes and reads for itself alone; empty: there are none.
        creates: Whether it makes the topics of Gyre that are missing; others wait for them.
    """

    reads: tuple[Topic, ...] = ()
    writes: tuple[Topic, ...] = ()
    reads_letters: tuple[Topic, ...] = ()
    writes_letters: tuple[Topic, ...] = ()
    groups: tuple[str, ...] = ()
    transactions: str = ""
    own: str = ""
    creates: bool = False

    @property
    def topics(self) -> list[str]:
        """The names of the topics of Gyre that it needs, in the order of `Topic`."""
        letters = {*self.reads_letters, *self.writes_letters}
        needed = {*self.reads, *self.writes}
        return [
            name
            for topic in Topic
            for name, wanted in ((str(topic), topic in needed), (topic.dead_letters, topic in letters))
            if wanted or self.creates
        ]


ACCESS: dict[str, Access] = {
    "router": Access(
        reads=(Topic.USAGE, Topic.BUNDLES, Topic.OUTCOMES, Topic.DEPLOYMENTS),
        writes=(Topic.INTERACTIONS, Topic.FEEDBACK, Topic.SHADOWS, Topic.USAGE),
    ),
    "governance": Access(reads=(Topic.BUNDLES,)),
    "context": Access(
        reads=(Topic.INTERACTIONS, Topic.BUNDLES, Topic.DOCUMENTS, Topic.ERASURES), writes=(Topic.DOCUMENTS,)
    ),
    # It reads every topic, so it is also who makes them.
    "audit": Access(
        reads=EVERY_TOPIC,
        writes=(Topic.CHECKPOINTS, Topic.DRIFT, Topic.ERASURES),
        writes_letters=EVERY_TOPIC,
        groups=("gyre-audit", "gyre-audit-drift"),
        transactions="gyre-audit-drift-",
        creates=True,
    ),
    "triage": Access(
        reads=(
            Topic.INTERACTIONS,
            Topic.FEEDBACK,
            Topic.BUNDLES,
            Topic.EDGE_CASES,
            Topic.LABELS,
            Topic.ACTIONS,
            Topic.DRIFT,
            Topic.ERASURES,
        ),
        writes=(Topic.EDGE_CASES, Topic.LABELS, Topic.OUTCOMES, Topic.ACTIONS),
        writes_letters=(Topic.INTERACTIONS, Topic.FEEDBACK, Topic.LABELS, Topic.ERASURES),
        groups=("gyre-triage",),
        transactions="gyre-triage-",
        own="gyre-triage-",  # what Faust's tables are read anew from
    ),
    "trainer": Access(
        reads=(Topic.BUNDLES, Topic.EDGE_CASES, Topic.LABELS, Topic.DEPLOYMENTS, Topic.ERASURES),
        writes=(Topic.CANDIDATES,),
    ),
    "serving": Access(
        reads=(
            Topic.INTERACTIONS,
            Topic.FEEDBACK,
            Topic.SHADOWS,
            Topic.BUNDLES,
            Topic.CANDIDATES,
            Topic.DEPLOYMENTS,
            Topic.DRIFT,
        ),
        writes=(Topic.DEPLOYMENTS,),
        writes_letters=(Topic.CANDIDATES,),
        groups=("gyre-serving",),
        transactions="gyre-serving-",
    ),
    # Dead letters of any topic go back to it.
    OPERATOR: Access(
        reads=(Topic.BUNDLES,),
        writes=EVERY_TOPIC,
        reads_letters=EVERY_TOPIC,
        writes_letters=EVERY_TOPIC,
        transactions="gyre-dlq-",
        creates=True,
    ),
}
"""By the name that each shows to Kafka."""


@dataclass(frozen=True, order=True)
class Rule:
    """One thing that an identity may do. Nothing else may be done: deleting, above all, is allowed to nobody.

    Attributes:
        identity: Who may.
        resource: With what kind of thing.
        name: Its name, or what its name begins with.
        is_prefix: Whether it is the latter.
        operation: What may be done; `Read` and `Write` allow to see that it is there.
    """

    identity: str
    resource: Literal["topic", "group", "transactionalId"]
    name: str
    is_prefix: bool
    operation: Literal["Create", "Read", "Write"]


def rules(identity: str) -> list[Rule]:
    """Return what an identity may do, each thing once, in an order that stays."""
    return list(dict.fromkeys(_rules(identity, ACCESS[identity])))


def _rules(identity: str, access: Access) -> Iterator[Rule]:
    if access.creates:
        for topic in Topic:
            for name in (str(topic), topic.dead_letters):
                yield Rule(identity, "topic", name, False, "Create")
    for topic in access.reads:
        yield Rule(identity, "topic", str(topic), False, "Read")
    for topic in access.reads_letters:
        yield Rule(identity, "topic", topic.dead_letters, False, "Read")
    for topic in access.writes:
        yield Rule(identity, "topic", str(topic), False, "Write")
    for topic in access.writes_letters:
        yield Rule(identity, "topic", topic.dead_letters, False, "Write")
    if access.own:
        yield Rule(identity, "topic", access.own, True, "Create")
        yield Rule(identity, "topic", access.own, True, "Read")
        yield Rule(identity, "topic", access.own, True, "Write")
    for group in access.groups:
        yield Rule(identity, "group", group, False, "Read")
    if access.transactions:
        yield Rule(identity, "transactionalId", access.transactions, True, "Write")
