"""The README.md of an export: a model card in Hugging Face's form (https://huggingface.co/docs/hub/model-cards)."""

from pathlib import Path
from string import Template
from typing import Any

import yaml

from schemas.events import Candidate, Deployment

_BODY = Template(Path(__file__).with_suffix(".md").read_text())
_HELD_TO = """\
Where a request offers no functions of its own, its answers are held to the JSON schema in `response_schema.json`;
without it, some are no valid answers. llama.cpp and Triton on CPU take it as `response_format`:
`{"type": "json_schema", "json_schema": {"schema": ...}}`."""


def model_card(candidate: Candidate, deployment: Deployment, context_tokens: int, *, has_licence: bool) -> str:
    """Return the card of a specialist.

    Args:
        candidate: What was trained, and what the gate found.
        deployment: What made it live.
        context_tokens: Prompt and answer together, where it was live.
        has_licence: Whether the base model's LICENSE lies beside the card.
    """
    head: dict[str, Any] = {
        "library_name": "peft",
        "base_model": candidate.base_model,
        "pipeline_tag": "text-generation",
        "tags": ["lora", "llama"],
        **({"license": "other", "license_name": "base-model", "license_link": "LICENSE"} if has_licence else {}),
        # No fields of the form, which allows more: they say which records the card is of.
        "candidate_id": candidate.candidate_id,
        "dataset_id": candidate.dataset_id,
    }
    body = _BODY.substitute(
        model=deployment.model,
        task=candidate.task,
        tenant=candidate.tenant,
        learned=f"{len(candidate.training_request_ids):,}",
        judged=f"{len(candidate.holdout_request_ids):,}",
        prompt=candidate.system_prompt,
        held_to=_HELD_TO if candidate.response_schema else "Its answers are text, held to no schema.",
        accuracy=f"{candidate.candidate_accuracy:.1%}",
        incumbent=candidate.incumbent or "nothing",
        incumbent_accuracy=f"{candidate.incumbent_accuracy:.1%}",
        gain=f"{100 * candidate.gain:+.1f}",
        low=f"{100 * candidate.gain_low:+.1f}",
        high=f"{100 * candidate.gain_high:+.1f}",
        confidence=f"{100 * candidate.confidence:.6g}",
        reasons="\n".join(f"- {reason}" for reason in candidate.reasons),
        sensitivity=candidate.sensitivity,
        context_tokens=f"{context_tokens:,}",
    )
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{body}"
