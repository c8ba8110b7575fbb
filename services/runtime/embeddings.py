"""Static embeddings: what a text is about, as a vector."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from model2vec import StaticModel

from services.runtime.errors import Fatal


class Embedder:
    """Static embeddings: a vector a token, looked up and averaged; no model is run."""

    def __init__(self, models_dir: Path) -> None:
        """Load them from the folder that holds the models.

        Raises:
            Fatal: They are not there.
        """
        folder = models_dir / "static-embeddings"
        if not folder.is_dir():
            raise Fatal(f"{folder} is missing: make it with python -m embedded.models {models_dir}")
        self._model = StaticModel.from_pretrained(str(folder))
        self.dimensions = int(self._model.dim)

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one vector a text, (texts, dimensions)."""
        vectors: npt.NDArray[Any] = self._model.encode(list(texts), use_multiprocessing=False)
        return vectors.astype(np.float32)
