"""What the frozen lower layers say about every row, computed once and kept in a file.

The file is mapped into memory, not read: what training holds of it at any time is one batch, and the pages behind it
are the system's to drop. So memory is bounded whatever the dataset's size; disk is not, at `hidden size x bytes a
value` for every token (2.3 kB for 576 values of four bytes), and is checked before anything is computed.
"""

import shutil
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from services.trainer.training.examples import Example, forward_passes
from services.trainer.training.model import Base


class CachedActivations:
    """Hidden states before the first trained layer, per example."""

    def __init__(self, path: Path, examples: Sequence[Example], hidden_size: int, dtype: torch.dtype) -> None:
        """Describes the file; nothing is opened until it is computed or read.

        Args:
            path: The file; it exists when and only when it is complete.
            examples: What it covers, in its order.
            hidden_size: Values per token.
            dtype: Type of a value.
        """
        self._path = path
        self._examples = examples
        self._hidden_size = hidden_size
        self._dtype = dtype
        self._ends = list(accumulate(len(example.token_ids) for example in examples))
        self._mapped: Tensor | None = None

    @torch.no_grad()
    def compute(self, base: Base, *, forward_tokens: int, report: Callable[[int], None]) -> None:
        """Fills the file, unless a run before this one has.

        Args:
            base: The model, lower layers included.
            forward_tokens: Most tokens, padding included, of a forward pass.
            report: Told the number of rows done after each pass.

        Raises:
            OSError: The disk has no room for it.
        """
        if self._path.exists():
            return
        size = self._ends[-1] * self._hidden_size * self._dtype.itemsize
        free = shutil.disk_usage(self._path.parent).free
        if size > free:
            raise OSError(f"cached activations need {size:,} bytes in {self._path.parent}, which has {free:,} free")
        partial = self._path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        values = self._map(partial, writable=True)
        lengths = [len(example.token_ids) for example in self._examples]
        done = 0
        with base.only_lower():
            for batch in forward_passes(range(len(lengths)), lengths, forward_tokens):
                rows = [torch.tensor(self._examples[i].token_ids) for i in batch]
                ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(base.causal_lm.device)
                hidden = base.decoder(input_ids=ids).last_hidden_state
                for row, i in zip(hidden, batch, strict=True):
                    self._rows_of(values, i).copy_(row[: lengths[i]])
                done += len(batch)
                report(done)
        partial.rename(self._path)

    def __getitem__(self, index: int) -> Tensor:
        """(tokens, hidden) of one example."""
        if self._mapped is None:
            self._mapped = self._map(self._path, writable=False)
        return self._rows_of(self._mapped, index)

    def _rows_of(self, values: Tensor, index: int) -> Tensor:
        end = self._ends[index]
        return values[end - len(self._examples[index].token_ids) : end]

    def _map(self, path: Path, *, writable: bool) -> Tensor:
        count = self._ends[-1] * self._hidden_size
        flat = torch.from_file(str(path), shared=writable, size=count, dtype=self._dtype)
        return flat.view(self._ends[-1], self._hidden_size)
