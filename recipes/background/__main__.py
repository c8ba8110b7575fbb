"""Writes down what people ordinarily ask: `python -m recipes.background MODELS_DIR`.

Topics and tasks are told from it. It writes `services/runtime/background.npz`: requests of published packages, as the
static embeddings in the folder see them. `python -m benchmarks.classifiers MODELS_DIR` measures what is told with it.
"""

import random
import sys
from pathlib import Path

import numpy as np

from recipes.corpora import ordinary
from services.governance.domain.folding import fold
from services.runtime.embeddings import BACKGROUND, Embedder

REQUESTS = 1000
# How much of the covariance is that of a sphere: requests are few for so many dimensions.
SHRINKAGE = 0.3


def main(models_dir: Path) -> None:
    """Embed, write."""
    texts = [text for source in ("bfcl", "presidio") for text in ordinary()[source]]
    vectors = Embedder(models_dir).embed([fold(text).text for text in texts])
    covariance = np.cov(vectors.T)
    sphere = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    np.savez_compressed(
        BACKGROUND,
        mean=vectors.mean(axis=0),
        precision=np.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * sphere).astype(np.float16),
        requests=vectors[random.Random(0).sample(range(len(vectors)), REQUESTS)].astype(np.float16),
    )
    print(f"{BACKGROUND} is written, of {len(vectors)} requests", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
