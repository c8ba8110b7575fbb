"""What is looked for in requests and answers: `guardrails.yaml`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.bundle.base import FEWEST_EXAMPLES, Frozen, Name
from schemas.events import Sensitivity

# What guardrails can look for. `denied` are the texts that the operator lists.
Kind = Literal[
    "secret",
    "iban",
    "card",
    "id",
    "email",
    "ip",
    "phone",
    "address",
    "name",
    "denied",
    "injection",
    "toxicity",
    "topic",
    "leak",
    "format",
]
# Kinds that a classifier finds: it says how likely, and not where they begin and end.
CLASSIFIED: frozenset[Kind] = frozenset({"injection", "toxicity", "topic"})
# Kinds that are about an answer beside what was asked for.
OF_ANSWERS: frozenset[Kind] = frozenset({"leak", "format"})
Direction = Literal["input", "output", "document"]
# Guardrails of the tenants that have no list of their own.
DEFAULT = "default"


class Guardrail(Frozen):
    """What is looked for in requests and answers, and what is done about it."""

    detect: tuple[Kind, ...] = Field(min_length=1)
    # mask: a model and the record see `<EMAIL_1>`. refuse: nobody gets an answer. flag: it is on record, no more.
    # require: only models that are cleared for `sensitivity` may see the request.
    action: Literal["mask", "refuse", "flag", "require"]
    # What a request becomes, at least, when something is found in it.
    sensitivity: Sensitivity | None = None
    # input is what is asked, output what is answered, document what is ingested for later requests.
    directions: tuple[Direction, ...] = Field(default=("input", "output"), min_length=1)
    # What `denied` looks for: whole words, in any case. Of a topic: requests that are about it, as examples.
    texts: tuple[Annotated[str, Field(min_length=3)], ...] = ()
    # What `topic` is called in findings.
    topic: Name | None = None
    # The probability from which a classifier's find counts; none: the one that it comes with.
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    # How many words of the model's instructions in a row are a `leak`.
    words: Annotated[int, Field(ge=6, le=100)] = 10

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if self.action == "require" and self.sensitivity is None:
            raise ValueError("sensitivity: wanted, for the action `require` is about it")
        if self.action == "require" and "output" in self.directions:
            raise ValueError("directions: wanted no output for the action `require`: an answer has its model already")
        if self.sensitivity is not None and set(self.directions) == {"output"}:
            raise ValueError("sensitivity: wanted none on output alone: it is the request that it raises")
        if len(set(self.detect)) < len(self.detect):
            raise ValueError("detect: wanted each kind once")
        if ("topic" in self.detect) != (self.topic is not None):
            raise ValueError("topic: wanted with `topic`, and with nothing else")
        if "topic" in self.detect and (len(self.detect) > 1 or len(self.texts) < FEWEST_EXAMPLES):
            raise ValueError(f"texts: wanted {FEWEST_EXAMPLES} examples of one topic or more, and no other kind")
        if "topic" not in self.detect and ("denied" in self.detect) != bool(self.texts):
            raise ValueError("texts: wanted with `denied` and `topic`, and with nothing else")
        classified = CLASSIFIED.intersection(self.detect)
        for kind in sorted({*classified, "format"}.intersection(self.detect)):
            if self.action == "mask":
                raise ValueError(f"action: wanted none that masks, for {kind} is of a text, not of a place in it")
        if "injection" in self.detect and "output" in self.directions:
            raise ValueError("directions: wanted no output for injection: an answer goes to no model")
        for kind in sorted(OF_ANSWERS.intersection(self.detect)):
            if set(self.directions) != {"output"}:
                raise ValueError(f"directions: wanted [output] for {kind}, which only an answer has")
        if self.threshold is not None and len(self.detect) != len(classified):
            raise ValueError(f"threshold: wanted with nothing but {', '.join(sorted(CLASSIFIED))}")
        return self
