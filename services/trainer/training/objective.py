"""What a step lowers: how unlikely the right answers are, and how little they are preferred to what was corrected.

The second is DPO's (Rafailov et al., "Direct Preference Optimization", NeurIPS 2023), with the base as its reference.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from services.trainer.training.configuration import TrainingConfiguration
from services.trainer.training.examples import TrainingSet


class Objective:
    """Of all examples of a run."""

    def __init__(self, learned: TrainingSet, reference: Tensor, configuration: TrainingConfiguration) -> None:
        """Takes what is known of the examples.

        Args:
            learned: The examples.
            reference: How likely the base finds the completion of each, (examples,), in nats; only those of
                corrections and of what they corrected are looked at.
            configuration: How much preferences count.
        """
        self._rejected = learned.rejected
        self._reference = reference
        self._weight = configuration.preference_weight
        self._beta = configuration.preference_beta

    def rows(self, taken: Sequence[int]) -> list[int]:
        """The examples whose likelihood a forward pass needs: those taken, then what some of them corrected."""
        return [*taken, *(self._rejected[index] for index in taken if index in self._rejected)]

    def loss(self, logprobs: Tensor, taken: Sequence[int], examples: int, completion_tokens: int) -> Tensor:
        """Nats a token of the right answers, and the weighted preference loss a row; a scalar.

        Args:
            logprobs: Of the completions of `rows(taken)`.
            taken: Examples of this forward pass.
            examples: Of the whole step, over all workers.
            completion_tokens: Of these.
        """
        corrections = [place for place, index in enumerate(taken) if index in self._rejected]
        wanted = logprobs[: len(logprobs) - len(corrections)]
        loss = -wanted.sum() / completion_tokens
        if corrections:
            gains = logprobs - self._reference[self.rows(taken)]
            margins = gains[corrections] - gains[len(taken) :]
            loss = loss - self._weight * functional.logsigmoid(self._beta * margins).sum() / examples
        return loss
