"""What is made once from the models that come in packages is what it is meant to be."""

from pathlib import Path

import numpy as np
import pytest

from services.runtime.embeddings import Embedder


@pytest.fixture(scope="module")
def embedder(models: Path) -> Embedder:
    return Embedder(models)


def cosine(embedder: Embedder, one: str, other: str) -> float:
    first, second = embedder.embed([one, other])
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


@pytest.mark.parametrize(
    ("word", "akin", "other"),
    [
        ("film", "movie", "dagger"),
        ("taxi", "cab", "lawn"),
        ("car", "automobile", "ocean"),
        ("doctor", "physician", "brick"),
    ],
)
def test_words_of_like_meaning_lie_near_one_another(embedder: Embedder, word: str, akin: str, other: str) -> None:
    assert cosine(embedder, word, akin) > 0.5
    assert cosine(embedder, word, other) < 0.3


def test_the_length_of_a_text_does_not_blur_it(embedder: Embedder) -> None:
    assert cosine(embedder, "The film begins at eight.", "The film begins at eight. " * 60) > 0.95
