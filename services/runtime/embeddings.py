"""Static embeddings: what a text is about, as a vector, and how alike that is to examples.

Likeness is told by Fisher's linear discriminant: the direction in which examples lie from what people ordinarily ask,
weighed by how ordinary requests differ among themselves.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.runtime.errors import Fatal

# `recipes/background` made it.
BACKGROUND = Path(__file__).parent / "background.npz"

# Beyond them a text is not read.
MOST_TOKENS = 512
MOST_CHARACTERS = 6 * MOST_TOKENS
REMEMBERED_WORDS = 2**16

Vectors = npt.NDArray[np.float32]


class Embedder:
    """Static embeddings: a vector a token, looked up and averaged; no model is run."""

    def __init__(self, models_dir: Path) -> None:
        """Load them from the folder that holds the models.

        Raises:
            Fatal: They are not there.
        """
        from model2vec import StaticModel  # takes a second, and not everybody who imports this loads them

        folder = models_dir / "token-embeddings"
        if not folder.is_dir():
            raise Fatal(f"{folder} is missing: make it with python -m embedded.models {models_dir}")
        model = StaticModel.from_pretrained(str(folder))
        self._folder = folder
        self.dimensions = int(model.dim)
        # `model.encode` takes several times as long for one text: it reads every word and weighs every token anew. Here
        # words are read once, for no token goes beyond white space.
        known: npt.NDArray[Any] = (
            model.embedding if model.token_mapping is None else model.embedding[model.token_mapping]
        )
        weights = 1.0 if model.weights is None else model.weights[:, None]
        self._vectors: Vectors = (known.astype(np.float32) * weights).astype(np.float32)
        self._tokens: Callable[[str], bytes] = lru_cache(REMEMBERED_WORDS)(
            lambda word: np.array(model.tokenize([word])[0], np.intp).tobytes()
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the model: vectors under another are not to be compared with these."""
        with (self._folder / "model.safetensors").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one vector a text, (texts, dimensions), of length 1."""
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            read = b"".join(map(self._tokens, text[:MOST_CHARACTERS].split()))
            tokens = np.frombuffer(read, np.intp)[:MOST_TOKENS]
            vector += np.add.reduce(self._vectors[tokens], axis=0)
            vector /= math.sqrt(vector.dot(vector)) + 1e-32
        return vectors


@dataclass(frozen=True)
class Background:
    """Ordinary requests as static embeddings of D dimensions.

    Attributes:
        mean: (D,).
        precision: Inverse of their covariance, (D, D).
        requests: (requests, D).
    """

    mean: Vectors
    precision: Vectors
    requests: Vectors

    @classmethod
    def load(cls) -> "Background":
        """Return the background that comes with Gyre."""
        with np.load(BACKGROUND) as arrays:
            return cls(*(arrays[name].astype(np.float32) for name in ("mean", "precision", "requests")))


class Likeness:
    """How alike texts are to examples."""

    def __init__(self, examples: Vectors, background: Background) -> None:
        """Take in the examples, (examples, D)."""
        centre = examples.mean(axis=0)
        self._direction = background.precision @ (centre - background.mean)
        self._middle = (centre + background.mean) / 2
        self._ordinary = np.sort((background.requests - self._middle) @ self._direction)

    def scores(self, vectors: Vectors) -> Vectors:
        """Return log-odds that each text is of the examples' kind and no ordinary request, were both as frequent."""
        scores: Vectors = (vectors - self._middle) @ self._direction
        return scores

    def shares(self, vectors: Vectors) -> npt.NDArray[np.float64]:
        """Return for each text the share of ordinary requests that are less like the examples."""
        return np.searchsorted(self._ordinary, self.scores(vectors)) / len(self._ordinary)


@dataclass(frozen=True)
class Space:
    """Where texts lie, and where ordinary ones do."""

    embed: Callable[[Sequence[str]], Vectors]
    background: Background

    def likeness(self, examples: Sequence[str]) -> Likeness:
        """Return how alike texts are to examples."""
        return Likeness(self.embed(examples), self.background)


def space_of(models_dir: Path) -> Callable[[], Space]:
    """Return what gives the space of texts when somebody first wants it; embeddings are loaded only then."""
    return cache(lambda: Space(Embedder(models_dir).embed, Background.load()))
