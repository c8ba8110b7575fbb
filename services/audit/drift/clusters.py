"""Where questions lie, as a few numbers: which cluster of a task's first questions is nearest, and how near."""

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

# Questions that the clusters are made of, and how many there are.
LEARNED = 128
CLUSTERS = 8
_ROUNDS = 10


class Clusters:
    """Clusters of the first questions (spherical k-means, Dhillon and Modha 2001); they stay as they are from then on.

    The first questions are used up by that. So what is said of later ones is a fixed function of each, which conformal
    p-values want (Papadopoulos et al. 2002, "inductive").
    """

    def __init__(self) -> None:
        self._first: list[Vectors] = []
        self._centres: Vectors | None = None

    def place(self, vector: Vectors) -> tuple[int, float] | None:
        """Return the nearest cluster and the cosine distance from its centre; nothing while there are no clusters.

        Args:
            vector: The question's embedding, of length 1.
        """
        if self._centres is None:
            self._first.append(vector)
            if len(self._first) == LEARNED:
                self._centres, self._first = _centres(np.stack(self._first)), []
            return None
        likeness = self._centres @ vector
        nearest = int(likeness.argmax())
        return nearest, 1.0 - float(likeness[nearest])


def _centres(vectors: Vectors) -> Vectors:
    """Return centres of clusters, (CLUSTERS, D), beginning with vectors that lie far from one another."""
    chosen = [0]
    while len(chosen) < CLUSTERS:
        chosen.append(int((vectors @ vectors[chosen].T).max(axis=1).argmin()))
    centres = vectors[chosen]
    for _ in range(_ROUNDS):
        nearest = (vectors @ centres.T).argmax(axis=1)
        for number in set(nearest.tolist()):
            centre = vectors[nearest == number].sum(axis=0)
            centres[number] = centre / (np.linalg.norm(centre) + 1e-12)
    return centres
