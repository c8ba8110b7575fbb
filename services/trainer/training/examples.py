"""Dataset rows → token ids, and the order in which batches are taken."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from services.trainer.dataset import LabelledRow
from services.trainer.training.configuration import TrainingConfiguration
from services.trainer.training.mentions import Mentions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Batches are cut from windows of this many, sorted by length: little padding, and still a different order every epoch.
_WINDOW_BATCHES = 8


@dataclass(frozen=True)
class Example:
    """One row as the model sees it.

    Attributes:
        label_id: Where it comes from.
        token_ids: Prompt, then completion, by the tokenizer's chat template.
        prompt_tokens: How many of them are prompt; the loss is over the rest.
    """

    label_id: str
    token_ids: tuple[int, ...]
    prompt_tokens: int

    @property
    def completion_tokens(self) -> int:
        """Tokens that the loss is taken over."""
        return len(self.token_ids) - self.prompt_tokens


def encode(row: LabelledRow, tokenizer: "PreTrainedTokenizerBase") -> Example:
    """Renders a row with the tokenizer's chat template.

    Raises:
        ValueError: The template writes the prompt differently once an answer follows it, so where the answer begins
            cannot be told.
    """
    prompt: list[dict[str, Any]] = [msgspec.to_builtins(message) for message in row.messages]
    answer = {"role": "assistant", "content": row.completion}
    # One conversation in, so one list of ids out, which the library's types cannot say.
    before: Any = tokenizer.apply_chat_template(prompt, tokenize=True, add_generation_prompt=True, return_dict=False)
    whole: Any = tokenizer.apply_chat_template([*prompt, answer], tokenize=True, return_dict=False)
    if whole[: len(before)] != before or len(whole) == len(before):
        raise ValueError(
            f"label {row.label_id}: the base's chat template does not write the prompt with and without the answer "
            "alike; give the base a template whose generation prompt is the beginning of an assistant turn"
        )
    # What templates put behind the end of a turn (often a line break) is never generated: not worth learning.
    end = max((i for i, token in enumerate(whole) if token == tokenizer.eos_token_id and i >= len(before)), default=-1)
    return Example(row.label_id, tuple(whole[: end + 1] if end >= 0 else whole), len(before))


@dataclass(frozen=True)
class TrainingSet:
    """What a run learns from.

    Attributes:
        examples: Every different one, once.
        epochs: Of each epoch, the indices of the examples it takes: one per row, in the rows' order.
        validation: Indices of the examples that nothing is learned from.
        rejected: Of examples whose answer is a correction, the index of the one with what was corrected.
        too_long: Labels of the rows that were left out.
    """

    examples: list[Example]
    epochs: list[list[int]]
    validation: list[int]
    rejected: dict[int, int]
    too_long: list[str]

    @property
    def compared(self) -> list[int]:
        """Indices of corrections and of what they corrected."""
        return sorted({*self.rejected, *self.rejected.values()})


def training_set(
    rows: Sequence[LabelledRow], tokenizer: "PreTrainedTokenizerBase", configuration: TrainingConfiguration, seed: int
) -> TrainingSet:
    """Renders rows for every epoch, with mentions replaced as the configuration says; depends on its arguments alone.

    Raises:
        ValueError: All rows are longer than `max_tokens` or fell to the validation slice, or see `encode`.
    """
    as_labelled = {row.label_id: encode(row, tokenizer) for row in rows}
    too_long = [name for name, example in as_labelled.items() if len(example.token_ids) > configuration.max_tokens]
    taken = [row for row in rows if len(as_labelled[row.label_id].token_ids) <= configuration.max_tokens]
    if not taken:
        raise ValueError(f"dataset: all {len(rows)} rows are longer than max_tokens ({configuration.max_tokens})")
    share = configuration.validation_share
    # By label, so that the slice is much the same whatever other rows there are.
    apart = {row.label_id for row in taken if random.Random(f"{seed}/{row.label_id}").random() < share}  # noqa: S311  # a choice, not a secret
    if len(apart) == len(taken):
        raise ValueError(f"dataset: all {len(taken)} rows fell to the validation_share ({share})")
    taught = [row for row in taken if row.label_id not in apart]
    mentions = Mentions(taught)
    indices: dict[Example, int] = {}
    rejected: dict[int, int] = {}
    epochs = []
    for epoch in range(configuration.epochs):
        rng = random.Random(f"{seed}/{epoch}/mentions")  # noqa: S311  # a choice, not a secret
        seen = []
        for row in taught:
            shown = mentions.replace(row, configuration.replaced_mentions, rng)
            example = as_labelled[row.label_id] if shown is row else encode(shown, tokenizer)
            if len(example.token_ids) > configuration.max_tokens:
                shown, example = row, as_labelled[row.label_id]
            index = indices.setdefault(example, len(indices))
            seen.append(index)
            if configuration.preference_weight and shown.rejected and index not in rejected:
                other = encode(msgspec.structs.replace(shown, completion=shown.rejected), tokenizer)
                if other != example and len(other.token_ids) <= configuration.max_tokens:
                    rejected[index] = indices.setdefault(other, len(indices))
        epochs.append(seen)
    validation = [indices.setdefault(as_labelled[row.label_id], len(indices)) for row in taken if row.label_id in apart]
    return TrainingSet(list(indices), epochs, validation, rejected, too_long)


def epoch_batches(lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Which examples go together in each step of an epoch: every index once, similar lengths in one batch.

    Depends on nothing but its arguments, so that a resumed run and every worker of a group take the same batches.

    Args:
        lengths: Tokens of each example.
        batch_size: Examples per step; the batch that ends a window may be smaller.
        seed: Of the run.
        epoch: Counted from 0.
    """
    rng = random.Random(f"{seed}/{epoch}")  # noqa: S311  # an order, not a secret
    order = list(range(len(lengths)))
    rng.shuffle(order)
    window = batch_size * _WINDOW_BATCHES
    batches = []
    for start in range(0, len(order), window):
        by_length = sorted(order[start : start + window], key=lambda index: lengths[index])
        batches += [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    rng.shuffle(batches)
    return batches


def forward_passes(batch: Sequence[int], lengths: Sequence[int], forward_tokens: int) -> list[list[int]]:
    """Cuts a worker's part of a batch into forward passes of at most `forward_tokens` tokens, padding included.

    Args:
        batch: Indices of examples; may be empty, which still is one (empty) pass.
        lengths: Tokens of each example.
        forward_tokens: The most of a pass; an example that is longer by itself gets one of its own.
    """
    passes: list[list[int]] = [[]]
    for index in sorted(batch, key=lambda index: lengths[index]):
        if passes[-1] and (len(passes[-1]) + 1) * lengths[index] > forward_tokens:
            passes.append([])
        passes[-1].append(index)
    return passes
