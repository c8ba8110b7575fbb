"""Examples as the model takes them, a forward pass at a time."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from services.trainer.training.cached_activations import CachedActivations
from services.trainer.training.examples import Example, forward_passes
from services.trainer.training.model import IGNORED, CompletionLogprobs

# oneDNN compiles each product anew, in milliseconds, for every number of tokens that it has not seen.
_LENGTH_STEP = 8


class Inputs:
    """Of all examples of a run."""

    def __init__(self, examples: Sequence[Example], cached: CachedActivations | None, device: torch.device) -> None:
        """Takes the examples.

        Args:
            examples: The examples.
            cached: What the frozen layers say about them, where there are any.
            device: Where the model is.
        """
        self._examples = examples
        self._cached = cached
        self._device = device

    def of(self, taken: Sequence[int]) -> tuple[Tensor, Tensor, Literal["input_ids", "inputs_embeds"]]:
        """Pads on the right: (inputs, labels, what the inputs are), as `CompletionLogprobs` takes them.

        A worker without a share of a short last batch still has to take the step with the others: it gets a row whose
        completion has no tokens.
        """
        indices = taken or (0,)
        examples = [self._examples[index] for index in indices]
        labels = _padded(
            [
                torch.tensor([IGNORED] * example.prompt_tokens + list(example.token_ids[example.prompt_tokens :]))
                for example in examples
            ],
            IGNORED,
        )
        if not taken:
            labels.fill_(IGNORED)
        if self._cached is not None:
            hidden = _padded([self._cached[index] for index in indices], 0)
            return hidden.to(self._device), labels.to(self._device), "inputs_embeds"
        ids = _padded([torch.tensor(example.token_ids) for example in examples], 0)
        return ids.to(self._device), labels.to(self._device), "input_ids"

    @torch.no_grad()
    def likelihoods(
        self,
        logprobs_of: CompletionLogprobs,
        wanted: Sequence[int],
        forward_tokens: int,
        report: Callable[[int], None] = lambda _: None,
    ) -> Tensor:
        """Returns how likely the model finds completions now, (examples,), in nats; 0 for those that are not wanted.

        Args:
            logprobs_of: The model.
            wanted: Indices of examples.
            forward_tokens: Most tokens, padding included, of a forward pass.
            report: Told the number of rows done after each pass.
        """
        found = torch.zeros(len(self._examples), device=self._device)
        lengths = [len(example.token_ids) for example in self._examples]
        done = 0
        for taken in forward_passes(wanted, lengths, forward_tokens) if wanted else ():
            found[taken] = logprobs_of(*self.of(taken))
            done += len(taken)
            report(done)
        return found


def _padded(rows: Sequence[Tensor], value: int) -> Tensor:
    """Rows of (tokens, ...) as one tensor, `value` behind their ends, its length a multiple of `_LENGTH_STEP`."""
    length = math.ceil(max(len(row) for row in rows) / _LENGTH_STEP) * _LENGTH_STEP
    padded = rows[0].new_full((len(rows), length, *rows[0].shape[1:]), value)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded
